# One line each, so that CONTRIBUTING.md can show them plainly. Make, because it is everywhere already.
BIN ?= .venv/bin
UV ?= uv

.PHONY: setup check test bench bench-page bench-peers fmt lock docs sdk sim sim-bugs chaos chaos-small restarts storm dbfaults partition clock exhaust differential schema fuzz

setup:
	python3 -m venv .venv && $(BIN)/pip install -q -e '.[test]'

check:
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright && $(BIN)/lint-imports

test:
	$(BIN)/pytest

# make bench, make bench SECTIONS="noop flat" BENCH="--million 100000", or small: make bench BENCH=--quick
bench:
	$(BIN)/python -m bench $(SECTIONS) $(BENCH)

# The table of docs/performance.md, with the raw figures beside for a later --against
bench-page:
	$(BIN)/python -m bench --json bench.json --write docs/performance.md $(BENCH)

# The schedulers that the bench shows beside Styx: make bench-peers PEERS=DIR
bench-peers:
	$(BIN)/python -m bench peers --install $(or $(PEERS),$(HOME)/.cache/styx-bench)

fmt:
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

# The build backend is pinned with the rest, so that building the wheel needs nothing else either.
lock:
	printf 'hatchling\neditables\n' | $(UV) pip compile -q --universal --python-version 3.11 --all-extras --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements.lock pyproject.toml -

docs:
	$(BIN)/python docs/generate.py

# The sync client from the async one
sdk:
	$(BIN)/python -m tests.sdk.generate

# make sim SEEDS=50000 FROM=1000000, or as many as fit into a time: make sim BUDGET=60
sim:
	$(BIN)/python -m tests.sim run --from $(or $(FROM),0) $(if $(BUDGET),--budget $(BUDGET),--seeds $(or $(SEEDS),500))

# Each rule broken on purpose must be found, by the invariant that it breaks
sim-bugs:
	$(BIN)/python -m tests.sim bugs

# kill -9 of everything under work, then the judge: make chaos TASKS=10000 SERVER_KILLS=100 AGENT_KILLS=300 POSTGRES_KILLS=20
chaos:
	$(BIN)/python -m tests.chaos chaos $(if $(SEED),--seed $(SEED)) --tasks $(or $(TASKS),300) --server-kills $(or $(SERVER_KILLS),3) --agent-kills $(or $(AGENT_KILLS),8) --postgres-kills $(or $(POSTGRES_KILLS),1) --servers $(or $(SERVERS),1) --agents $(or $(AGENTS),4)

# What a merge has to pass, in less than a minute.
chaos-small:
	$(BIN)/python -m tests.chaos chaos --tasks 150 --server-kills 3 --agent-kills 5 --postgres-kills 1 --agents 3 --longest-s 5

# kill -9 of agents' links alone: make restarts TASKS=10000 KILLS=1000 AGENTS=20
restarts:
	$(BIN)/python -m tests.chaos restarts --tasks $(or $(TASKS),300) --kills $(or $(KILLS),100) --agents $(or $(AGENTS),4)

storm:
	$(BIN)/python -m tests.chaos storm --tasks $(or $(TASKS),2000) --agents $(or $(AGENTS),20) --rounds $(or $(ROUNDS),20) --servers $(or $(SERVERS),1)

dbfaults:
	$(BIN)/python -m tests.chaos dbfaults --seconds $(or $(SECONDS_AWAY),60)

# Cuts in network namespaces (root), bad lines through a proxy: make partition SCENARIOS="leader long" ROUNDS=3
partition:
	$(BIN)/python -m tests.chaos partition $(SCENARIOS) --rounds $(or $(ROUNDS),1)

clock:
	$(BIN)/python -m tests.chaos clock --tasks $(or $(TASKS),60)

# Files, disks, memory and patience used up; PARTS chooses: make exhaust PARTS="body slow"
exhaust:
	$(BIN)/python -m tests.chaos exhaust $(PARTS)

# T-3: Postgres and the simulator's memory, side by side: make differential SEQUENCES=10000
differential:
	$(BIN)/python -m tests.conformance --sequences $(or $(SEQUENCES),300)

# T-12: every operation of the OpenAPI document against a real server, by schemathesis (the extra `fuzz`): make schema CASES=10000
schema:
	$(BIN)/python -m tests.fuzz $(if $(SEED),--seed $(SEED)) schema --cases $(or $(CASES),500)

# T-13: broken, hostile and misplaced frames against a real server's agent socket: make fuzz FRAMES=1000000
fuzz:
	$(BIN)/python -m tests.fuzz $(if $(SEED),--seed $(SEED)) agent --frames $(or $(FRAMES),10000)
	$(BIN)/python -m tests.fuzz $(if $(SEED),--seed $(SEED)) frames --frames $(or $(FRAMES),10000)
