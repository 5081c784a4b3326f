# Fairlead. Two commands on a fresh machine with Go, gcc, git, make, apt and root: make demo, make test.
# The lab's kernel and Kubernetes binaries are built once and kept in $(FAIRLEAD_CACHE) (default ~/.cache/fairlead).

GO ?= go
GOLANGCI_LINT ?= $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
BINARIES := bin/fairlead-controller bin/fairlead-speaker bin/kubectl-fairlead bin/lab bin/demo

# Packages with tests that need a kernel with ip_vs, in namespaces of their own.
KERNEL_PACKAGES := ./pkg/ipvs ./pkg/netif ./pkg/nft ./pkg/announce ./pkg/host ./pkg/isolated ./pkg/gossip ./pkg/speaker
# Words of the combinations that make test-matrix plays; all if there are none.
MATRIX ?=
# Arguments for the tests of the lab tier, such as E2E_ARGS='-run TestFailover'.
E2E_ARGS ?=
BENCH ?= .
# The product that is measured by make bench-datapath and make bench-failover, how many rounds the data plane's measurements have
# (1 to see that all of them run), and the lab in which the product has a node beside each of its rivals (BenchmarkDatapath).
MANIFESTS ?= manifests
ROUNDS ?= 24
bench_datapath = FAIRLEAD_E2E=1 FAIRLEAD_ROUNDS=$(ROUNDS) $(GO) test -count=1 -timeout 60m -run '^$$' -benchtime 1x \
  -exec "$(CURDIR)/bin/lab run --nodes 7 --kube-proxy iptables,iptables,nftables --manifests $(CURDIR)/$(1) --" \
  -bench 'Datapath/$(BENCH)' ./e2e/tests
# How often each fault strikes in make bench-failover and make bench-many, and with how many VIPs there.
RUNS ?= 20
VIPS ?= 500
bench_failover = FAIRLEAD_E2E=1 $(GO) test -count=1 -timeout 120m -run '^$$' -benchtime 1x \
  -exec "$(CURDIR)/bin/lab run --nodes $(1) --kube-proxy none --manifests $(CURDIR)/$(MANIFESTS) --" -bench $(2) ./e2e/tests
# How many Services make bench-scale makes.
SCALE ?= 10000

# One way to compile, so that one build cache serves all but the race detector, which needs cgo.
export CGO_ENABLED := 0

.PHONY: all
all: build

.PHONY: build
build: $(BINARIES)

.PHONY: $(BINARIES)
bin/fairlead-controller bin/fairlead-speaker bin/kubectl-fairlead: bin/%:
	$(GO) build -o $@ ./cmd/$*
bin/lab:
	$(GO) build -o $@ ./e2e/lab
bin/demo:
	$(GO) build -o $@ ./e2e/demo

# What the lab runs on: Debian packages, a kernel where this one has no ip_vs, and Kubernetes.
.PHONY: setup
setup: build
	e2e/packages.sh lab

.PHONY: demo
demo: setup
	bin/lab run --nodes 3 -- bin/demo

# A shell in the cluster of the demo.
.PHONY: lab
lab: setup
	bin/lab shell --nodes 3

.PHONY: test
test: test-unit test-kernel test-e2e

.PHONY: test-unit
test-unit:
	CGO_ENABLED=1 $(GO) test -race ./...

.PHONY: test-kernel
test-kernel: setup
	FAIRLEAD_KERNEL_TESTS=1 $(GO) test -count=1 -p 1 -exec "$(CURDIR)/bin/lab vm --" -run '^TestKernel' $(KERNEL_PACKAGES)

.PHONY: test-e2e
test-e2e: setup
	FAIRLEAD_E2E=1 $(GO) test -count=1 -timeout 75m -exec "$(CURDIR)/bin/lab run --nodes 3 --" ./e2e/tests -v $(E2E_ARGS)

# What neighbours do, in every combination of placement, mode of kube-proxy and address families: some 25 minutes for each
# placement. MATRIX='host ipvs' plays only combinations of these words.
.PHONY: test-matrix
test-matrix: setup
	e2e/matrix.sh bin/lab $(MATRIX)

# All that docs/performance.md tells but for the API server's load, in an hour to an hour and a half: the packages 8 minutes, those that
# need a kernel 20, the data plane 20 in host placement and 15 in isolated, failover 10, a Service's first answer 5.
.PHONY: bench
bench: setup bench-packages
	$(GO) test -timeout 30m -run '^$$' -bench '$(BENCH)' -benchmem ./pkg/...
	FAIRLEAD_KERNEL_TESTS=1 $(GO) test -count=1 -timeout 60m -p 1 -exec "$(CURDIR)/bin/lab vm --" -run '^$$' -bench '^BenchmarkKernel' -benchmem $(KERNEL_PACKAGES)
	$(call bench_datapath,manifests)
	$(call bench_datapath,manifests/isolated)
	FAIRLEAD_RUNS=2 $(call bench_failover,5,'Failover$$')
	FAIRLEAD_E2E=1 $(GO) test -count=1 -timeout 60m -exec "$(CURDIR)/bin/lab run --nodes 3 --" \
	  -run '^$$' -bench '$(BENCH)' -benchtime 1x ./e2e/tests

# Of these only the data plane's, side by side; MANIFESTS=manifests/isolated for the other placement, BENCH=duel ROUNDS=100 for
# masquerading beside keepalived alone, in 300 rounds.
.PHONY: bench-datapath
bench-datapath: setup bench-packages
	$(call bench_datapath,$(MANIFESTS))

# Of these only failover, beside keepalived's: 22 minutes for 20 strikes.
.PHONY: bench-failover
bench-failover: setup bench-packages
	FAIRLEAD_RUNS=$(RUNS) $(call bench_failover,5,'Failover$$')

# The same of a node with 500 VIPs, beside a keepalived with as many, which make bench leaves out. VIPS=50 is for fewer.
.PHONY: bench-many
bench-many: setup bench-packages
	FAIRLEAD_RUNS=$(RUNS) FAIRLEAD_VIPS=$(VIPS) $(call bench_failover,5,OfMany)

.PHONY: bench-packages
bench-packages:
	e2e/packages.sh bench

# The controller with 10,000 Services against the lab's API server.
.PHONY: bench-scale
bench-scale: setup
	FAIRLEAD_E2E=1 FAIRLEAD_SCALE=$(SCALE) $(GO) test -count=1 -timeout 60m \
	  -exec "$(CURDIR)/bin/lab run --nodes 1 --kube-proxy none --" -run '^$$' -bench TenThousand -benchtime 1x ./e2e/tests

# What electing the holders of up to 10,000 VIPs asks of the API server, beside client-go's leaderelection: some 10 minutes.
# BENCH='by=fairlead/speakers=20' plays a part of it.
.PHONY: bench-api
bench-api: setup
	FAIRLEAD_E2E=1 $(GO) test -count=1 -timeout 60m -exec "$(CURDIR)/bin/lab run --nodes 1 --kube-proxy none --" \
	  -run '^$$' -bench 'APILoad/$(BENCH)' -benchtime 1x ./e2e/tests

# Two thousand random schedules of each kind of faults over the election, five hundred plays against the controller (make test
# plays twelve of each), and moves, an outage of ten minutes, a bad network, a slow store, clocks that jump and source ranges that
# change, which must go without a flaw on a quiet machine.
.PHONY: soak
soak:
	FAIRLEAD_CHAOS_RUNS=500 $(GO) test -count=1 -timeout 60m -parallel 8 -run WhateverDies ./pkg/controller
	FAIRLEAD_SIM_RUNS=2000 $(GO) test -count=1 -timeout 60m -run 'Right|Protocol|Bounded|MovesNothing|NoGap|OutOfReach|StoodStill' -v ./pkg/election
	FAIRLEAD_STRICT=1 FAIRLEAD_MOVES=36 FAIRLEAD_OUTAGE=10m $(MAKE) test-e2e E2E_ARGS="-run 'PlannedMoves|BesideLoad|AReplaced|AnOutage|ABadNetwork|ASlowStore|ClocksThatJump|AChangeOfSource'"

.PHONY: lint
lint: check-generated
	$(GOLANGCI_LINT) run

.PHONY: generate
generate:
	pkg/generated/generate.sh

# Fails when the generated files are not those that make generate gives.
.PHONY: check-generated
check-generated: generate
	@git status --porcelain -- pkg/api pkg/generated manifests/crds | grep . \
	  && { echo "generated files are stale: run make generate and commit the result"; exit 1; } || true

.PHONY: clean
clean:
	rm -rf bin
