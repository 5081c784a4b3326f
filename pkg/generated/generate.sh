#!/usr/bin/env bash
# Generates the deep copies, CRDs, clients, listers and informers of pkg/api: run by make generate.
set -euo pipefail
cd "$(dirname "$0")/../.."
module=github.com/fairlead/fairlead
controller_gen=sigs.k8s.io/controller-tools/cmd/controller-gen@v0.23.0
code_generator=v0.37.2
header=pkg/generated/header.txt
gen() { local name=$1; shift; go run "k8s.io/code-generator/cmd/$name@$code_generator" --go-header-file "$header" "$@"; }

go run $controller_gen object:headerFile=$header paths=./pkg/api/...
go run $controller_gen crd paths=./pkg/api/... output:crd:dir=manifests/crds

rm -rf pkg/generated/{clientset,listers,informers}
gen client-gen --clientset-name versioned --input-base "" --input $module/pkg/api/v1alpha1 \
  --output-dir pkg/generated/clientset --output-pkg $module/pkg/generated/clientset
gen lister-gen --output-dir pkg/generated/listers --output-pkg $module/pkg/generated/listers $module/pkg/api/v1alpha1
gen informer-gen --output-dir pkg/generated/informers --output-pkg $module/pkg/generated/informers \
  --versioned-clientset-package $module/pkg/generated/clientset/versioned \
  --listers-package $module/pkg/generated/listers $module/pkg/api/v1alpha1
