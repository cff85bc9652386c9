#!/bin/sh
# Run a command in a network of its own: `alone.sh COMMAND...`. The port at which the operator reads
# runners' progress is one for all of a machine, and another benchmark may have it.
set -eu
if [ "$(id -u)" != 0 ] || ! unshare --net true; then
  exec "$@"
fi
# Nothing is reached through this link; the API server wants an address that is not loopback.
exec unshare --net sh -euc '
  ip link set lo up
  ip link add outside type bridge
  ip addr add 192.0.2.2/24 dev outside
  ip link set outside up
  ip route add default via 192.0.2.1
  exec "$@"
' sh "$@"
