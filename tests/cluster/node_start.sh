# node_start.sh CGROUP_FOLDER... -- COMMAND...: run a command inside these control groups.
set -e
while [ "$1" != -- ]; do
  echo $$ > "$1/cgroup.procs"
  shift
done
shift
exec "$@"
