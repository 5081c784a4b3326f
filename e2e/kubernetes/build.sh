#!/usr/bin/env bash
# Builds the lab's Kubernetes binary (etcd, kube-apiserver, kube-controller-manager, kube-proxy, kubectl) and prints its path.
# Kept in $FAIRLEAD_CACHE (default ~/.cache/fairlead), keyed by the sources here. About 11 minutes on 2 cores.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${FAIRLEAD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/fairlead}
cd "$here"
key=$(cat build.sh main.go go.mod go.sum | sha256sum | cut -c1-16)
out=$cache/kubernetes-$key/kubernetes
if [ -x "$out" ]; then echo "$out"; exit 0; fi

version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
etcd=$(go list -m -f '{{.Version}}' go.etcd.io/etcd/server/v3)
echo "building Kubernetes $version and etcd $etcd (about 11 minutes on 2 cores)" >&2
minor=${version#v1.}
stamp="-X k8s.io/component-base/version.gitVersion=$version"
stamp="$stamp -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=${minor%%.*}"
mkdir -p "$(dirname "$out")"
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $stamp" -o "$out.new" . >&2
mv "$out.new" "$out"
echo "$out"
