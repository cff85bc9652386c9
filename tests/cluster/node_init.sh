# The first process of the node's own process, mount and control group namespaces. When it ends,
# the kernel ends all others in there, and every mount goes with them.
#
# node_init.sh KUBELET ARGUMENTS..., with in the environment: FOLDER of the node, CONTAINERD the folder
# of its programs, STORE the folder of images that outlives the node, IMAGES as NAME=ARCHIVE,
# KEPT the names of all images that may stay, OWN_FOLDERS those that are to be the node's own,
# CGROUP_VERSION of the host.
set -e
export PATH=$CONTAINERD:$PATH
ctr() { command ctr --address "$FOLDER/containerd.sock" --namespace k8s.io "$@"; }

private_mounts() {
  mount --make-rprivate /
  mount --make-rshared /   # the kubelet and runc hand mounts on between themselves
  # Folders that the kubelet, CNI and containerd's shims use whatever they are told: nothing of the
  # host's is to be seen or touched there. node.py has made those that were missing.
  local folder
  for folder in $OWN_FOLDERS; do
    mount -t tmpfs -o mode=755 tmpfs "$folder"
  done
}

cgroups_of_version_1() {
  local controllers folder options name
  mount -t tmpfs -o mode=755 cgroups /sys/fs/cgroup
  while IFS=: read -r _ controllers _; do
    case $controllers in
    '') continue ;;   # the unified hierarchy of a hybrid host
    name=*) folder=${controllers#name=} options=none,$controllers ;;   # runc wants systemd's too
    *) folder=$controllers options=$controllers ;;
    esac
    mkdir "/sys/fs/cgroup/$folder"
    mount -t cgroup -o "$options" cgroup "/sys/fs/cgroup/$folder"
    case $folder in   # such as cpu,cpuacct: each is looked for by its own name
    *,*) for name in ${folder//,/ }; do ln -s "$folder" "/sys/fs/cgroup/$name"; done ;;
    esac
  done < /proc/self/cgroup
}

cgroups_of_version_2() {
  local process controller
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mkdir /sys/fs/cgroup/init   # a group that has children may hold no processes itself
  for process in $(cat /sys/fs/cgroup/cgroup.procs); do
    echo "$process" > /sys/fs/cgroup/init/cgroup.procs || true   # it may have ended
  done
  for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    # Not before the process outside that waits for this one has left the group (cgroups.py).
    until echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control; do sleep 0.1; done
  done
}

start_containerd() {   # CONFIGURATION
  # No registry: a missing image fails at once (ErrImagePull), and nothing is asked outside.
  HTTPS_PROXY=http://127.0.0.1:1 HTTP_PROXY=http://127.0.0.1:1 \
    containerd --config "$1" >> "$FOLDER/containerd.log" 2>&1 &
  containerd=$!
  until ctr version > /dev/null 2>&1; do
    kill -0 $containerd || return 1
    sleep 0.05
  done
}

stop_containerd() {
  kill $containerd && wait $containerd || true
}

# The project's images and the node's own stay from node to node. What ran in an earlier node does not.
tidy_store() {
  local left image archive mark
  start_containerd "$FOLDER/tidying.toml" || return 1
  left=$(ctr containers list --quiet) || return 1
  if [ -n "$left" ]; then ctr containers delete $left || return 1; fi
  rm -rf "$STORE/io.containerd.grpc.v1.cri"
  left=$(ctr images list | awk -v kept="$KEPT" "$UNNEEDED") || return 1
  if [ -n "$left" ]; then ctr images delete $left > /dev/null || return 1; fi
  for image in $IMAGES; do
    archive=${image#*=} mark=$STORE/imported-${image##*/}
    if ! [ "$mark" -nt "$archive" ]; then
      ctr images import "$archive" || return 1
      touch "$mark"
    fi
  done
  stop_containerd
}

# Of REF, TYPE, DIGEST, ...: names that nobody asked to keep, and ids that no kept name leads to.
UNNEEDED='
  BEGIN { split(kept, names, " "); for (i in names) is_kept[names[i]] }
  NR == 1 { next }
  $1 in is_kept { has_name[$3]; next }
  { target[$1] = $3 }
  END { for (name in target) if (!(name ~ /^sha256:/ && target[name] in has_name)) print name }'

private_mounts
cgroups_of_version_$CGROUP_VERSION

if ! tidy_store; then
  echo "the store of images is damaged: begun anew" >&2
  stop_containerd
  rm -rf "$STORE"
  tidy_store
fi
start_containerd "$FOLDER/containerd.toml"
"$@" > "$FOLDER/kubelet.log" 2>&1 &
kubelet=$!
trap 'kill $kubelet; wait $kubelet; stop_containerd; exit 0' TERM
wait -n $containerd $kubelet || true   # neither ends by itself
echo "containerd or the kubelet has ended" >&2
exit 1
