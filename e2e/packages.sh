#!/usr/bin/env bash
# Installs the Debian packages that the lab runs on, if any is missing.
# Usage: packages.sh SET...   sets: lab (commands on a node), kernel (to build the UML kernel),
# bench (what the benchmarks compare with)
set -euo pipefail

lab=(iproute2 iputils-ping iptables nftables ipset ipvsadm conntrack kmod procps curl openssl tcpdump ca-certificates)
kernel=(flex bison bc libelf-dev libssl-dev gcc make xz-utils python3)
bench=(keepalived)

want=()
for set in "$@"; do
  case $set in
    lab) want+=("${lab[@]}") ;;
    kernel) want+=("${kernel[@]}") ;;
    bench) want+=("${bench[@]}") ;;
    *) echo "packages.sh: no set of packages is named $set (lab, kernel, bench)" >&2; exit 2 ;;
  esac
done

missing=()
for package in "${want[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" != 0 ]; then
  echo "packages.sh: missing ${missing[*]}: run as root, or apt-get install them" >&2
  exit 1
fi
echo "installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -20 "$log" >&2
  echo "packages.sh: apt-get could not install ${missing[*]} (log: $log)" >&2
  exit 1
fi
rm -f "$log"
