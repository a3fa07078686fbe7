"""The sub-commands: where each lives, and its line in `styx --help`.

Plain data, so that help and completion of names cost no import. `cli.main` imports a command when it
is called.
"""

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Run": {
        "run": (
            "styx.cli.run:run",
            "Run a command or a file of tasks, follow it, exit with its code",
        ),
        "submit": ("styx.cli.submit:submit", "Submit a file of tasks and print the job's id"),
        "logs": ("styx.cli.tasks:logs", "Print or follow what a task wrote"),
        "outputs": ("styx.cli.outputs:outputs", "List or fetch what a task has left"),
        "wait": ("styx.cli.tasks:wait", "Wait for tasks or jobs, exit with their code"),
        "cancel": ("styx.cli.tasks:cancel", "Cancel tasks or jobs"),
        "retry": ("styx.cli.tasks:retry", "Run a finished task or job again"),
        "schedules": (
            "styx.cli.schedules:schedules",
            "Jobs that run again and again: list, pause, run",
        ),
        "secret": ("styx.cli.secrets:secret", "Values that tasks get and nobody sees: set, list"),
    },
    "Look": {
        "status": ("styx.cli.lists:status", "What runs, what waits, what failed"),
        "tasks": ("styx.cli.lists:tasks", "List tasks"),
        "jobs": ("styx.cli.lists:jobs", "List jobs"),
        "events": ("styx.cli.events:events", "What happened, as it happens"),
        "audit": ("styx.cli.audit:audit", "Who asked for what: submits, cancels, drains, agents"),
        "explain": ("styx.cli.events:explain", "Why a task is not running yet, or how it ended"),
    },
    "Files": {
        "validate": ("styx.cli.validate:validate", "Say what is wrong with a file of tasks"),
        "import": ("styx.cli.imports:imports", "Rewrite other programs' files as files of tasks"),
        "schema": ("styx.cli.validate:schema", "Print the JSON Schema of a file of tasks"),
    },
    "Machines": {
        "agents": ("styx.cli.agents:agents", "List agents"),
        "agent": ("styx.cli.agents:agent", "Join a server and run tasks on this machine"),
        "drain": ("styx.cli.agents:drain", "Give an agent no new work"),
        "resume": ("styx.cli.agents:resume", "Give a drained agent work again"),
    },
    "Plan": {
        "simulate": (
            "styx.cli.simulate:simulate",
            "What a fleet would make of a workload, in virtual time",
        ),
    },
    "Server": {
        "serve": ("styx.cli.server:serve", "Run the server in the foreground"),
        "server": (
            "styx.cli.server:server",
            "Start, stop or look at this user's background server",
        ),
    },
    "Styx": {
        "config": ("styx.cli.settings:config", "Show the configuration and where it comes from"),
        "completion": ("styx.cli.settings:completion", "Print the completion script of a shell"),
        "version": ("styx.cli.settings:version", "Print the version"),
    },
}
# What commands call and do not import for their options' sake.
SERVE = "styx.app:serve"
AGENT = "styx.agent.main:run"
# Reading the rules of .gitignore takes longer to import than the rest of a submit.
SEND = "styx.sdk.sending:send"
IDENTIFY = "styx.sdk.sending:identify"
SOURCE = "styx.sdk.pack:Source"
CLONES = "styx.cli.clones:Clones"

TARGETS: dict[str, tuple[str, str]] = {
    name: entry for section in SECTIONS.values() for name, entry in section.items()
}


def overview() -> str:
    """`styx --help`."""
    lines = [
        "Usage: styx COMMAND [OPTIONS] [ARGS]…",
        "",
        "Run any command, array or DAG of commands on whatever machines you have.",
        "",
        "  styx run --name demo echo 'Hello Styx!'",
    ]
    for title, commands in SECTIONS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {name:<12}{line}" for name, (_, line) in commands.items()]
    lines += ["", "styx COMMAND --help says more. STYX_SERVER_URL chooses another server."]
    return "\n".join(lines)
