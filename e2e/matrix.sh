#!/usr/bin/env bash
# Plays TestTheMatrixOfNeighbours in every combination of placement, mode of kube-proxy and address families, each in a lab of
# its own of about a minute and a half, and prints a table. In it is what a client saw while a neighbour did its damage, in ms:
# the longest time without an answer (it asks every 20 ms), and the time from the first request that failed to the last.
# Usage: matrix.sh LAB [WORD...]   only combinations with all of the words, such as: matrix.sh bin/lab host ipvs
# In the mode ipvs kube-proxy is told to leave the foreign IPVS services of the test; in "ipvs-excluded" our own as well, and to
# have NodePorts at the nodes' own addresses only: what it makes at those of VIPs it would never remove then.
set -uo pipefail
lab=$(realpath "$1")
shift
cd "$(dirname "$0")/.."
out=$(mktemp -d)
tests=$out/tests
go test -c -o "$tests" ./e2e/tests

foreign=192.0.2.0/24,2001:db8::/32
failed=0
columns=("ipvsadm -C" "delete table inet fairlead" "flush table inet fairlead" "nft flush ruleset" "ip addr del"
  "kube-proxy restarts" "kube-proxy syncs")

play() { # placement proxy families
  local name="$1 $2 $3" flags=(--nodes 3 --quiet --families "$3" --kube-proxy "${2%-excluded}")
  [ "$1" = host ] || flags+=(--manifests "$PWD/manifests/$1")
  case $2 in
    ipvs) flags+=(--kube-proxy-arg "--ipvs-exclude-cidrs=$foreign") ;;
    ipvs-excluded)
      flags+=(--kube-proxy-arg "--ipvs-exclude-cidrs=$foreign,10.87.0.0/16,fd87::/64" --kube-proxy-arg --nodeport-addresses=primary) ;;
  esac
  local log="$out/$1-$2-$3" result=pass
  (cd e2e/tests && FAIRLEAD_E2E=1 FAIRLEAD_STRICT=1 FAIRLEAD_MATRIX="$log.ms" "$lab" run "${flags[@]}" -- \
    "$tests" -test.run '^TestTheMatrixOfNeighbours$' -test.v -test.timeout 15m) >"$log.log" 2>&1 || { result=FAIL; failed=1; }
  local row="| $1 | $2 | $3 | $result |" column
  for column in "${columns[@]}"; do
    row+=" $(awk -F '\t' -v name="$column" '$1 == name { print $2 }' "$log.ms" 2>/dev/null) |"
  done
  echo "$row" | tee -a "$out/table"
  [ $result = pass ] || grep -E '^ *(--- FAIL|[a-z_]+\.go:)|^lab:' "$log.log" | head -30 >&2
}

{
  echo "| placement | kube-proxy | families | result | $(printf '%s | ' "${columns[@]}")"
  echo "|---|---|---|---|$(printf -- '---|%.0s' "${columns[@]}")"
} | tee "$out/table"
for placement in host isolated; do
  [ $placement = host ] || [ -d "manifests/$placement" ] || continue
  for proxy in iptables nftables ipvs ipvs-excluded none; do
    for families in ipv4 ipv6 dual; do
      for word in "$@"; do
        [[ " $placement $proxy $families " == *" $word "* ]] || continue 2
      done
      play $placement $proxy $families
    done
  done
done
echo
cat "$out/table"
[ $failed = 0 ] && rm -rf "$out" || echo "logs: $out" >&2
exit $failed
