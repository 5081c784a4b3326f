#!/usr/bin/env bash
# Builds the User-Mode Linux kernel of the lab from Debian's kernel source and prints the path of the binary.
# Kept in $FAIRLEAD_CACHE (default ~/.cache/fairlead), keyed by this script and kernel.config. About 11 minutes on 2 cores.
#
# Linux before 6.13 crashes as UML on processors with AMX (put_fp_registers), and Debian's packaged user-mode-linux
# lacks NAT: so the source comes from the first of the suites below that has one new enough.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${FAIRLEAD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/fairlead}
key=$(cat "$here/build.sh" "$here/kernel.config" | sha256sum | cut -c1-16)
out=$cache/kernel-$key/linux
if [ -x "$out" ]; then echo "$out"; exit 0; fi

suites=(sid trixie-backports)
work=$cache/build-kernel-$key
"$here/../packages.sh" kernel
rm -rf "$work" && mkdir -p "$work/lists/partial" "$cache"
cd "$work"
log=$work/build.log
exec 3>&2
fail() { tail -20 "$log" >&3 || true; echo "kernel/build.sh: $1 (log: $log)" >&3; exit 1; }

# The suites are on the mirror that this machine gets Debian from.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Origin: Debian' | grep -v security | head -1)
[ -n "$mirror" ] || fail "this machine has no Debian mirror in its apt sources, and the kernel's source comes from one: \
run on Debian, or on a machine whose kernel has ip_vs (modprobe ip_vs)"

apt_opts=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::Lists=$work/lists")
package=
for suite in "${suites[@]}"; do
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > sources.list
  apt-get "${apt_opts[@]}" update >>"$log" 2>&1 || continue
  package=$(apt-cache "${apt_opts[@]}" pkgnames linux-source- | grep -E '^linux-source-[0-9]+\.[0-9]+$' | sort -V | tail -1)
  [ -n "$package" ] && break
done
[ -n "$package" ] || fail "no linux-source package in ${suites[*]}"
version=${package#linux-source-}
[ "$(printf '6.13\n%s\n' "$version" | sort -V | head -1)" = 6.13 ] || fail "$package is too old: 6.13 or newer is needed"

echo "downloading $package" >&2
apt-get "${apt_opts[@]}" download "$package" >>"$log" 2>&1 || fail "cannot download $package"
dpkg-deb --fsys-tarfile "$package"_*.deb | tar x --wildcards './usr/src/linux-source-*.tar.xz' || fail "cannot unpack $package"
tar xf usr/src/linux-source-*.tar.xz || fail "cannot unpack the source"
cd "$package"
echo "building the UML kernel $version (about 11 minutes on 2 cores)" >&2
make ARCH=um defconfig >>"$log" 2>&1 || fail "make defconfig"
scripts/kconfig/merge_config.sh -m .config "$here/kernel.config" >>"$log" 2>&1 || fail "merge_config.sh"
make ARCH=um olddefconfig >>"$log" 2>&1 || fail "make olddefconfig"
lost=$(grep -E '^CONFIG_' "$here/kernel.config" | grep -vxFf .config || true)
[ -z "$lost" ] || fail "kernel $version dropped options of kernel.config: ${lost//$'\n'/ }"
make ARCH=um -j"$(nproc)" linux >>"$log" 2>&1 || fail "make linux"
strip linux
mkdir -p "$(dirname "$out")"
cp linux "$out.new" && mv "$out.new" "$out"
cd "$cache" && rm -rf "$work"
echo "$out"
