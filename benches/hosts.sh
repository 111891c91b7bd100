#!/bin/bash
# Runs a command on several hosts that are network namespaces of this machine, joined by a bridge with links of a given rate.
#
#   benches/hosts.sh 4 1gbit target/release/deepj scale --preset paper
#
# Needs root, iproute2, and Open MPI's mpirun. There is one rank a host, which has one core: where there are fewer cores than hosts,
# several share one. What is made is removed at the end.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
hosts=$1 rate=$2; shift 2
[ "$(id -u)" = 0 ] || { echo "namespaces need root" >&2; exit 1; }
for tool in ip tc mpirun; do command -v $tool >/dev/null || { echo "$tool is missing: apt install iproute2 openmpi-bin" >&2; exit 1; }; done
[[ $1 != */* ]] || set -- "$(realpath "$1")" "${@:2}"
[[ $hosts =~ ^[1-9][0-9]?$ ]] || { echo "$hosts is no number of hosts from 1 to 99" >&2; exit 2; }
ip link show deepjbr >/dev/null 2>&1 && { echo "there is a bridge deepjbr: another run, or what one left (ip link del deepjbr)" >&2; exit 1; }
work=$(mktemp -d)
end() {
  for i in $(seq 1 $hosts); do
    ip link del deepjv$i 2>/dev/null || true
    ip netns del deepj$i 2>/dev/null || true
  done
  ip link del deepjbr 2>/dev/null || true
  rm -rf "$work"
}
trap end EXIT
ip link add deepjbr type bridge
ip addr add 10.77.0.254/24 dev deepjbr
ip link set deepjbr up
for i in $(seq 1 $hosts); do
  ip netns add deepj$i
  ip link add deepjv$i type veth peer name eth0 netns deepj$i
  ip link set deepjv$i master deepjbr up
  ip -n deepj$i addr add 10.77.0.$i/24 dev eth0
  ip -n deepj$i link set lo up
  ip -n deepj$i link set eth0 up
  # Both ways: what leaves the host, and what leaves the bridge towards it.
  tc -n deepj$i qdisc add dev eth0 root tbf rate "$rate" burst 1mb latency 100ms
  tc qdisc add dev deepjv$i root tbf rate "$rate" burst 1mb latency 100ms
done
# Open MPI starts its daemons by this in place of ssh: the first argument is the host.
cores=$(nproc)
sed "s/CORES/$cores/" >"$work/agent" <<'AGENT'
#!/bin/bash
host=$1; shift
i=${host##*.}
exec ip netns exec deepj$i taskset -c $(((i - 1) % CORES)) unshare --uts bash -c "hostname host$i; $*"
AGENT
chmod +x "$work/agent"
list=$(seq -s, -f '10.77.0.%g:1' 1 $hosts)
# mpirun itself is on the first host, and starts the first rank.
ip netns exec deepj1 taskset -c 0 unshare --uts bash -c 'hostname host1; exec "$@"' - \
  mpirun --allow-run-as-root --oversubscribe --bind-to none -n "$hosts" -host "$list" --mca plm_rsh_agent "$work/agent" \
  --mca btl self,tcp --mca btl_tcp_if_include eth0 --mca oob_tcp_if_include eth0 "$@"
