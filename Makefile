# OpenMathReasoning SFT: one target per stage. `make` alone is the help.
#
# Every documented variable is taken as the text it is: neither make nor the shell evaluates it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help
# What a user's own shell may have exported, and would change what the commands below do.
export PYTHONUTF8 := 1
unexport CDPATH BASH_ENV POSIXLY_CORRECT GREP_OPTIONS SHELLOPTS BASHOPTS

# The words of omr/settings/table.py that a command line may carry (tests/test_door.py compares the two).
WORDS := RECIPE FROM MODEL ROUND VARIANT EDITION DATASET MODES RAW BASE SEED NAME STEPS LIMIT RECOVERY ENGINE LAUNCHER NUM_TRAINING_JOBS DEADLINE \
	NODES GPUS OVERRIDES SHARDS BAD_ROWS ALLOW QUALITY DROP VALIDATION STATS EVAL MODE BENCHMARK PROBLEMS SAMPLES TEMPERATURE TOP_P MAX_TOKENS \
	BEFORE SOLUTIONS SANDBOX SERVER Q REPO PUBLIC VERIFY FOLLOW JSON DRY_RUN FORCE RECODE YES STAGE COUNT ROWS NEMO_RL_SOURCE FOR ASK \
	WORKSPACE RUNNER WORKERS MEMORY TOKENIZER LENGTH_TOKENIZER NEMO_SKILLS IMAGE \
	TOOLS_BASE TRAIN_BASE TOOLS_TIER APT_MIRROR CONTAINER MOUNTS \
	ACCOUNT PARTITION CPU_PARTITION QOS TIME MARGIN NEMO_RL CA_BUNDLE HF_HOME HF_ENDPOINT HF_HUB_OFFLINE \
	WANDB_PROJECT WANDB_ENTITY PYTHON

# $(value X) is the text that was typed. A simply expanded variable is exported as it stands, while make
# would expand a recursive one on the way to the environment, and run a $(shell …) in it.
$(foreach word,$(WORDS),$(if $(filter-out undefined default,$(origin $(word))),\
	$(eval override $(word) := $$(value $(word)))$(eval export $(word))))

# A slip such as MODLE=7b must not pass in silence (nor be expanded on its way to the environment).
STRAY := $(strip $(foreach name,$(filter-out $(WORDS) -*-%,$(.VARIABLES)),$(if $(filter command,$(origin $(name))),$(name))))
ifneq ($(STRAY),)
$(error $(firstword $(STRAY)) is no setting of this Makefile; run `make` for the list)
endif

RUN := @docker/run

.PHONY: image image-check shell help recipes new-recipe check-recipe demo doctor completion data data-report model passport plan train average validate eval serve ask report publish \
	status watch logs cancel pipeline sqsh prune nemo test test-cluster test-fast test-nemo fuzz faults bench engine-check lint docs picture lock clean

##@ Start
help: ## this page
	@python="$(CURDIR)/.venv/bin/python"; [[ -x "$$python" ]] || python=python3; exec "$$python" bin/help.py

demo: ## the whole recipe on this machine, both rounds, on the tiny corpus (about 6 minutes)
	$(RUN) cli bin/demo.py --model tiny

doctor: ## [FOR= MODEL= RUNNER= ASK=1]: what this machine lacks; what would stop or waste that request
	$(RUN) cli bin/doctor.py

completion: ## bash completes targets and settings after: source <(make -s completion)
	$(RUN) cli bin/completion.py

recipes: ## the recipe table: models, rounds, rates, parallel sizes
	$(RUN) cli bin/recipes.py

new-recipe: ## NAME= [FROM=]: a recipe file of one's own, a commented copy of another
	$(RUN) cli bin/new_recipe.py

check-recipe: ## RECIPE=: what can be wrong with a recipe, a line each, before anything is made
	$(RUN) data bin/check_recipe.py

##@ Stages
data: ## DATASET= ROUND= [VARIANT= MODES= RAW= DROP= VALIDATION=]: parquet to the shuffled SFT file
	$(RUN) data bin/data.py

data-report: ## DATASET= ROUND= [STATS= QUALITY=1]: token lengths, duplicates, steps; what rows are like
	$(RUN) data bin/data_report.py

model: ## MODEL= [BASE=]: the base model, with the long-context patch where the recipe has it
	$(RUN) data bin/model.py

passport: ## MODEL= ROUND=: do config, tokenizer and chat template agree at every station?
	$(RUN) data bin/passport.py

plan: ## MODEL= ROUND= [EDITION=]: what training would do and cost, before anything is queued
	$(RUN) cli bin/plan.py

train: ## MODEL= ROUND= [EDITION= RECOVERY= NUM_TRAINING_JOBS=]: train, average, finish
	$(RUN) train bin/train.py

average: ## MODEL= ROUND=: the averaged steps into final/ (train does it at its end)
	$(RUN) data bin/average.py

validate: ## MODEL= ROUND=: the loss of final/ and of its averaged parts on held-out rows
	$(RUN) train bin/validate.py

prune: ## MODEL= ROUND= [YES=1]: what is no longer needed in a run's folder
	$(RUN) data bin/prune.py

eval: ## MODEL= ROUND= [MODE= SAMPLES= BEFORE=1]: accuracy on a benchmark, beside the published one
	$(RUN) train bin/eval.py

serve: ## MODEL= ROUND=: a server of the final model, until it is interrupted
	$(RUN) train bin/serve.py

ask: ## MODEL= ROUND= Q="…": one problem, answered as it is written
	$(RUN) train bin/ask.py

report: ## [MODEL= ROUND=] [JSON=1]: one page about a run, or about the whole workspace
	$(RUN) cli bin/report.py

publish: ## MODEL= ROUND= REPO=owner/name [PUBLIC=1]: final/ with its card on the hub, in one commit
	$(RUN) data bin/publish.py

##@ Watch
status: ## [MODEL= ROUND=]: each job of a chain, how far the training is, what is left
	$(RUN) cli bin/status.py

watch: ## [MODEL= ROUND=]: a run in the terminal while it goes on, or all that are active; q leaves
	$(RUN) cli bin/watch.py

logs: ## MODEL= ROUND= [FOLLOW=1]: the newest log of a run
	$(RUN) cli bin/logs.py

cancel: ## MODEL= ROUND=: end a chain; what is saved stays
	$(RUN) cli bin/cancel.py

pipeline: ## MODEL=: data, base, both rounds and evaluation as one graph of Slurm jobs
	$(RUN) cli bin/pipeline.py

##@ Container
image: ## [STAGE=tools|train]: build the images, from bases pinned by digest
	$(RUN) cli bin/image.py

image-check: ## [STAGE=]: the images' self-test: versions, prompts, NeMo-RL's keys, every script
	$(RUN) cli bin/image.py --check

sqsh: ## CONTAINER=: the training image as a .sqsh file, imported once by a compute node
	$(RUN) cli bin/sqsh.py

shell: ## [STAGE=]: a shell in an image, with the workspace where the stages see it
	$(RUN) shell bash

##@ Develop
nemo: ## [NEMO_SKILLS=folder]: install nemo-skills for the real corpus's prompts
	@docker/venv nemo

test: ## every test but those of test-cluster
	@docker/venv dev && exec .venv/bin/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder -m 'not slurm and not docker'

test-cluster: ## the tests on a real Slurm and a real Docker engine, which they start themselves (as root)
	@docker/venv dev && exec .venv/bin/python -m pytest -m 'slurm or docker'

test-fast: ## the tests that take less than half a second each (a minute and a half)
	@docker/venv dev && exec .venv/bin/python -m pytest -n 2 --dist loadscope -m 'not slow and not slurm and not docker'

test-nemo: ## NEMO_RL_SOURCE=folder [NEMO_SKILLS=folder]: NeMo-RL's own SFT script under our driver, on a CPU
	@.ci/test-nemo

engine-check: ## NEMO_RL_SOURCE=folder: is this NeMo-RL what its row of omr/run/nemo_rl_version.py says?
	$(RUN) data bin/engine_check.py

fuzz: ## every reader of foreign text, 20,000 changed files each (OMR_FUZZ says how many)
	@docker/venv dev && OMR_FUZZ="$${OMR_FUZZ:-20000}" exec .venv/bin/python -m pytest -n 2 tests/hostile

faults: ## [SEED= COUNT=]: faults on purpose against every stage, on a Slurm of its own (as root)
	@docker/venv dev && exec .venv/bin/python -m tests.faults

bench: ## [ROWS=]: how fast this machine does it all, beside plainer ways, in one table
	@docker/venv dev && exec .venv/bin/python bin/speed.py

lint: ## ruff, shellcheck, hadolint
	@docker/venv dev && exec .ci/lint

docs: ## rewrite the tables of the docs that the code already says
	$(RUN) cli bin/docs.py

picture: ## the README's picture of the demo's report, by headless Chromium
	$(RUN) cli bin/picture.py

lock: ## renew the pinned dependencies
	@docker/lock

clean: ## remove what make built here, never the workspace
	rm -rf .venv .venv.* build .pytest_cache .ruff_cache
