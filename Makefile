# Set-up, and the commands that people type. `make` alone lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
# `make test ARGS=-x` runs tests that run make: theirs has no ARGS.
MAKEOVERRIDES :=
.DEFAULT_GOAL := help
.PHONY: help setup report publish confirm restore pages archive crate calibrate bench test check lock dictionary snapshots clean

# Of the environment nothing is taken: STUDY or RESULTS may mean something else there.
STUDY := quick
CORES := all
PROFILE := default
ARGS :=
RESULTS :=
ENVIRONMENT :=

# Keys of a study and of its recipe: `make report SEEDS=3 EPOCHS=1` overrides them.
# tests/test_setup.py holds the list together with workflow/schemas/study.schema.yaml.
KEYS := TITLE DATASETS ORDERINGS ACTIVATIONS DEPTHS SEEDS VARIANTS SELECTION RECIPE SEEDS_PER_JOB \
  ARMS_PER_JOB JOBS_PER_GPU SEEDS_TOGETHER KERNELS THRESHOLDS DATA_DIRS CLAIMS PROBES \
  WIDTH KERNEL DOWNSAMPLING DOWNSAMPLE_BLOCKS STEM HEAD \
  FINAL_NORM_ACT CONV_BIAS SCALING INITIALISATION BN_MOMENTUM BN_EPS OPTIMISER LEARNING_RATE \
  MOMENTUM WEIGHT_DECAY SCHEDULE BATCH_SIZE EPOCHS TRAIN_IMAGES VALIDATION_IMAGES PRECISION
SETTINGS := ALLOW_MISSING ARCHIVE GPU FROM LANG
OTHERS := STUDY CORES PROFILE ARGS RESULTS ENVIRONMENT

# Only variables of the command line count: an environment with WIDTH=80 changes no study.
given = $(filter command,$(firstword $(origin $(1))))
UNKNOWN := $(strip $(foreach v,$(filter-out $(KEYS) $(SETTINGS) $(OTHERS) MAKE% .% -%,$(.VARIABLES)),$(if $(call given,$(v)),$(v))))
ifneq ($(UNKNOWN),)
$(error $(firstword $(UNKNOWN)) is no variable of this Makefile; expected $(OTHERS) $(SETTINGS), or a key of a study: $(KEYS))
endif

# Snakemake reads values as YAML, where a comment begins so.
COMMENT := $() \#
CUT := $(strip $(foreach v,STUDY $(KEYS) $(SETTINGS),$(if $(call given,$(v)),$(if $(findstring $(COMMENT),$(value $(v))),$(v)))))
ifneq ($(CUT),)
$(error $(firstword $(CUT)) has a blank before $(lastword $(COMMENT)), and would be cut off there; leave them out, or write them in a study's file, in quotes)
endif

quote = '$(subst ','\'',$(1))'
# What a target does not read is refused, and not passed over.
given_in_vain = $(if $(call given,$(1)),$(if $(filter $(2),$(MAKECMDGOALS)),,$(firstword $(MAKECMDGOALS) help)))
ifneq ($(call given_in_vain,RESULTS,clean)$(call given_in_vain,ENVIRONMENT,clean),)
$(error RESULTS and ENVIRONMENT are for `make clean` alone, as RESULTS=1; expected make $(firstword $(MAKECMDGOALS) help) without them: results lie in results/, and to put them on another disk make results a link to a folder there)
endif
READ_ARGS := report publish confirm archive crate calibrate test
ifneq ($(call given_in_vain,ARGS,$(READ_ARGS)),)
$(error ARGS is not read by `make $(call given_in_vain,ARGS,$(READ_ARGS))`; expected it for one of $(READ_ARGS))
endif

ifneq ($(call given,CORES),)
ifeq ($(shell [[ $(call quote,$(value CORES)) =~ ^(all|0*[1-9][0-9]*)$$ ]] && echo good),)
$(error CORES is $(or $(value CORES),empty); expected all or a whole number from 1)
endif
endif

# LANG=zh is a language of the report, and no locale for the programs below.
ifneq ($(call given,LANG),)
unexport LANG
endif

lower = $(subst A,a,$(subst B,b,$(subst C,c,$(subst D,d,$(subst E,e,$(subst F,f,$(subst G,g,$(subst H,h,$(subst I,i,$(subst J,j,$(subst K,k,$(subst L,l,$(subst M,m,$(subst N,n,$(subst O,o,$(subst P,p,$(subst Q,q,$(subst R,r,$(subst S,s,$(subst T,t,$(subst U,u,$(subst V,v,$(subst W,w,$(subst X,x,$(subst Y,y,$(subst Z,z,$(1)))))))))))))))))))))))))))
# `value`: a dollar sign in a value is meant as it stands.
CONFIG = $(call quote,study=$(value STUDY)) $(foreach k,$(KEYS) $(SETTINGS),$(if $(call given,$(k)),$(call quote,$(call lower,$(k))=$(value $(k)))))

# PROFILE=slurm is workflow/profiles/slurm; with a slash it is a folder, such as your copy of it.
# On a cluster CORES counts those of this machine, which only data sets use.
folder = $(if $(findstring /,$(PROFILE)),$(PROFILE),workflow/profiles/$(PROFILE))
ifneq ($(call given,PROFILE),)
ifeq ($(shell ls $(call quote,$(folder))/config*.yaml 2>/dev/null),)
$(error PROFILE=$(PROFILE): no config.yaml in $(folder); expected a folder that has one, or one of $(notdir $(patsubst %/,%,$(dir $(wildcard workflow/profiles/*/config*.yaml)))))
endif
endif
WHERE = $(if $(filter default,$(PROFILE)),--cores $(CORES),--workflow-profile $(call quote,$(folder)) $(if $(call given,CORES),$(if $(filter all,$(CORES)),,--local-cores $(CORES))))

# Puts the directory of the right Python first on PATH; makes .venv where there is none.
USE = bin="$$(bash scripts/setup.sh $(1))"; export PATH="$$bin:$$PATH"

help: ## list these targets
	@echo "make TARGET, one of:"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1#\2/p' Makefile | while IFS='#' read -r name text; do printf '%-12s %s\n' "$$name" "$$text"; done
	@echo "Studies: $(patsubst studies/%.yaml,%,$(sort $(wildcard studies/*.yaml))). Overrides: make report STUDY=article SEEDS=3 EPOCHS=1 CORES=2"

setup: ## make .venv from requirements.lock, or find the active environment (the others do it too)
	@$(call USE,); echo "Python: $$bin"

# Snakemake keeps a cache of sources, and stops where it cannot: here rather than in the home folder.
CACHE = XDG_CACHE_HOME="$${XDG_CACHE_HOME:-$$PWD/.snakemake/cache}"

WRITABLE = mkdir -p .snakemake/cache 2>/dev/null && [ -w .snakemake ] && [ -w .snakemake/cache ] \
  || { echo "error: $$PWD/.snakemake cannot be written to; expected a place with rights and free space: copy the project to a folder of yours, and run there" >&2; exit 2; }

# Without its plugins Snakemake prints all of its options.
PLUGINS = sed -n -e 's/^executor: *\([a-z0-9-]*\).*/executor-plugin-\1/p' \
  -e 's/^default-storage-provider: *\([a-z0-9-]*\).*/storage-plugin-\1/p' $(call quote,$(folder))/config*.yaml \
  | while read -r plugin; do case "$$plugin" in *-local) continue;; *-kubernetes|*-s3) from='".[kubernetes]"';; *) from="snakemake-$$plugin";; esac; \
  python -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec(sys.argv[1].replace("-", "_")))' "snakemake-$$plugin" \
  || { echo "error: PROFILE=$(PROFILE): $$bin/python lacks snakemake-$$plugin; install it there with: pip install $$from" >&2; exit 2; }; done;

# `exec`: make passes a SIGTERM on to its child, which is Snakemake then and no shell around it.
report: ## run a study to its HTML and PDF report (STUDY=quick, LANG=zh, CORES=all, PROFILE=slurm, ARCHIVE=1, ARGS=--dry-run, FROM=published, any key)
	@$(WRITABLE); $(call USE,); $(if $(filter default,$(PROFILE)),,$(PLUGINS)) $(CACHE) BNORDER_SUMMARY=later exec python -m snakemake $(WHERE) $(ARGS) --config $(CONFIG)
	@$(if $(filter -n --dry-run --dryrun,$(ARGS)),:,$(call USE,2>/dev/null); python scripts/summary.py $(CONFIG))

publish: ## put a study's records, verdicts and reports into report/published/ (STUDY=article)
	@$(call USE,); python scripts/publish.py $(CONFIG) $(ARGS)

confirm: ## train 20 random published runs again and compare them bit by bit (STUDY=quick; ARGS="--runs 5"; report/confirmation/)
	@$(call USE,); OMP_NUM_THREADS=1 python scripts/confirm.py $(CONFIG) $(ARGS)

restore: ## take over published and older records that a study can use, so that only the rest is trained (STUDY=article)
	@$(call USE,); python scripts/restore.py $(CONFIG)

pages: ## write the pages that are made: README's blocks, docs/published.md, study.md, speed.md, compare.md, checklist.md
	@$(call USE,); python scripts/pages.py

archive: ## pack the project and its published results for a deposit (results/bnorder-VERSION.tar.gz)
	@$(call USE,); python scripts/archive.py $(ARGS)

crate: ## describe a published study as a Workflow Run RO-Crate (STUDY=article; results/<study>.crate.zip)
	@$(call USE,); python scripts/crate.py $(CONFIG) $(ARGS)

calibrate: ## measure on simulated studies how often verdicts are wrong (minutes; report/calibration/)
	@$(call USE,); python scripts/calibrate.py --studies 2000 --out report/calibration $(ARGS)

bench: ## measure what training and the workflow cost (an hour; benchmarks/results/)
	@$(call USE,); python scripts/data.py --dataset mnist --out results/data/mnist.pt; \
	python benchmarks/training.py; python benchmarks/candidates.py; \
	python benchmarks/rounding.py; python benchmarks/convolving.py; \
	python benchmarks/probing.py; python benchmarks/study.py --run quick; python benchmarks/scale.py

test: tests/browser/node_modules ## run all tests
	@$(call USE,dev); python -m pytest $(ARGS)

# axe-core, for the tests in a browser: an exact version, its checksum in the lock.
tests/browser/node_modules: tests/browser/package-lock.json
	@if command -v npm >/dev/null; then npm ci --prefix tests/browser --ignore-scripts --no-audit --no-fund --loglevel=error && touch $@ \
	|| echo "axe-core could not be installed: the tests that need it are skipped" >&2; \
	else echo "npm is not on PATH: the tests that need axe-core are skipped" >&2; fi

check: ## lint, formats, types, the workflow's lint, schemas and lock
	@$(call USE,dev); \
	python -m ruff check .; \
	python -m ruff format --check .; \
	python -m mypy; \
	python -m snakefmt --check Snakefile workflow; \
	python -m snakemake --lint; \
	for study in studies/*.yaml; do python scripts/study.py --study "$$study"; done; \
	python -m pytest -q tests/test_setup.py

lock: ## renew requirements.lock from pyproject.toml (needs uv)
	@uv="$$(command -v uv)" || { echo "error: make lock needs uv; see docs.astral.sh/uv" >&2; exit 2; }; \
	"$$uv" pip compile --universal --python-version 3.11 --generate-hashes --extra dev --upgrade \
	  --no-emit-index-url --no-annotate --no-header pyproject.toml -o requirements.lock; \
	"$$uv" pip compile --universal --python-version 3.11 --generate-hashes --upgrade \
	  --no-emit-index-url --no-annotate --no-header tests/kubernetes.in -o tests/kubernetes.lock

dictionary: ## renew docs/data-dictionary.md from bnorder/dictionary.py
	@$(call USE,); python scripts/dictionary.py

snapshots: ## renew tests/snapshots/, the generated prose (read the difference before you commit it)
	@$(call USE,dev); BNORDER_RENEW_SNAPSHOTS=1 python -m pytest -q tests/test_snapshots.py

clean: ## remove caches; RESULTS=1: results/ too; ENVIRONMENT=1: .venv too (it says what)
	@for given in "RESULTS=$(RESULTS)" "ENVIRONMENT=$(ENVIRONMENT)"; do case "$$given" in *=|*=1) ;; *) echo "error: $$given; expected 1, or nothing" >&2; exit 2;; esac; done; \
	remove() { for path in "$$@"; do if [ -e "$$path" ]; then echo "removing $$path"; rm -rf -- "$$path"; fi; done; }; \
	remove .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks *.egg-info tests/browser/node_modules; \
	find $(wildcard benchmarks bnorder scripts tests workflow) -name node_modules -prune -o -name __pycache__ -prune -print \
	| while read -r path; do remove "$$path"; done; \
	if [ "$(RESULTS)" = 1 ]; then remove results .snakemake; \
	else for path in results .snakemake; do [ ! -e "$$path" ] || echo "keeping $$path (make clean RESULTS=1 removes it)"; done; fi; \
	if [ "$(ENVIRONMENT)" = 1 ]; then remove .venv .venv.lock; fi
