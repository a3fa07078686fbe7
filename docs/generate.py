# ruff: noqa: INP001  # a script, not a package
"""The pages that follow from the code: `python docs/generate.py` writes them.

`tests/test_shape.py` fails while one of them is out of date.
"""

import inspect
import sys
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import yaml

from styx.api import measures
from styx.cli import commands
from styx.cli import main as cli
from styx.core import agent, attempt, instance, job, model, task
from styx.file import schema
from styx.sky import fate

ABOUT_CLI: Final = """\
Drawn from the program by `docs/generate.py`; do not edit. Standard output is data, what Styx says goes
to standard error. Exit codes: the task's own from `run`, `wait` and `logs -f`; else 0 fine, 1 no, 2 usage,
124 `--timeout` reached, 125 Styx itself failed, 130 detached by Ctrl-C (the task goes on)."""
ABOUT_METRICS: Final = """\
Drawn from `styx/api/measures.py` and `deploy/prometheus/styx.rules.yml` by `docs/generate.py`; do not edit.

Every server answers `GET /metrics` for itself, in Prometheus's text format or, where it is accepted, in
OpenMetrics. A standby answers too: with `styx_leader 0`, and without what only a leader knows (marked
below). So scrape every server, and `sum` over them. What only grows is counted from the beginning of the
leader's term (the process's own, from its start); `rate` and `increase` take a new beginning for what it is.

It takes a token, as every read does; on the server's own machine, its own user needs none:

```text
scrape_configs:
  - job_name: styx
    authorization: {type: Bearer, credentials_file: /etc/prometheus/styx.token} # the server's `token` file
    static_configs:
      - targets: ["styx-1.example.org:8080", "styx-2.example.org:8080"]
rule_files: [styx.rules.yml]
```

The name in `targets` is the Host that the server sees: put it into `server.allowed_hosts` if it is none of
its own. `deploy/grafana/styx.json` is a dashboard to import, `deploy/prometheus/styx.rules.yml` are the
alerts below. Units are seconds and bytes, and no label carries an id. On Linux the usual `process_*`
measures (CPU, memory, descriptors) stand beside these."""
DOCS: Final = Path(__file__).parent
ABOUT_STATES: Final = """\
Drawn from the tables in `styx/core` by `docs/generate.py`; do not edit. A move that its table does not
hold raises `IllegalTransition` and changes nothing. The one `status` word that users see is derived
from a task and the members of its current attempt (`styx/core/status.py`)."""
MACHINES: Final[dict[str, tuple[str, Mapping[StrEnum, frozenset[StrEnum]]]]] = {
    "Task": (str(task.__doc__), task.NEXT),
    "Attempt": (str(attempt.__doc__), attempt.NEXT),
    "Job": (str(job.__doc__), job.NEXT),
    "Agent": (str(agent.__doc__), agent.NEXT),
    "Instance": (str(instance.__doc__), instance.NEXT),
}


def pages() -> dict[str, str]:
    """File name -> text."""
    return {
        "states.md": states(),
        "cli.md": command_line(),
        "metrics.md": metrics(),
        "schema/task-file.json": json_schema(),
        "task-files.md": task_files(),
        "from-skypilot.md": from_skypilot(),
    }


def filled(page: str, sections: Mapping[str, str]) -> str:
    """A page written by hand with tables drawn from the program between its marks."""
    text = (DOCS / page).read_text()
    for name, table in sections.items():
        start, end = f"<!-- {name} -->", "<!-- end -->"
        before, _, after = text.partition(start)
        assert end in after, f"{page} has no mark for {name}"
        text = f"{before}{start}\n{table}\n{end}{after.partition(end)[2]}"
    return text


def task_files() -> str:
    shapes = schema.schema()["$defs"]
    names = {
        "task": "TaskForm",
        "resources": "ResourcesForm",
        "job": "JobForm",
        "schedule": "ScheduleForm",
    }
    own = {
        "task": frozenset(model.TaskForm.__struct_fields__),
        "job": frozenset(model.ScheduledJobForm.__struct_fields__),
    }
    return filled(
        "task-files.md",
        {
            title: fields_table(shapes[name]["properties"], own.get(title, ()), shapes)
            for title, name in names.items()
        },
    )


def fields_table(
    fields: Mapping[str, Any], only: Collection[str], shapes: Mapping[str, Any]
) -> str:
    rows = [
        f"| `{name}` | {cell(kind_of(field, shapes))} | {default_of(field)} | {about(field)} |"
        for name, field in fields.items()
        if name in only or (not only and name != "$schema")
    ]
    return "\n".join(["| field | type | default | |", "|---|---|---|---|", *rows])


def kind_of(field: Mapping[str, Any], shapes: Mapping[str, Any]) -> str:
    if "$ref" in field:
        shape = shapes[field["$ref"].rpartition("/")[2]]
        return ", ".join(shape["enum"]) if "enum" in shape else "object"
    kinds = [kind_of(choice, shapes) for choice in field.get("anyOf", ())] or [
        field.get("type", "any")
    ]
    return ", ".join(dict.fromkeys(kind for kind in kinds if kind not in {"null", ""}))


def default_of(field: Mapping[str, Any]) -> str:
    default = field.get("default")
    return "" if default in (None, "", [], {}) else f"`{default}`".replace("False", "false")


def about(field: Mapping[str, Any]) -> str:
    examples = [msgspec.json.encode(one).decode() for one in field.get("examples", ())]
    shown = f" E.g. {', '.join(f'`{one}`' for one in examples)}." if examples else ""
    return cell(field.get("description", "") + shown)


def from_skypilot() -> str:
    tables = {"task": fate.TASK, "resources": fate.RESOURCES, "header": fate.HEADER}
    return filled("from-skypilot.md", {name: fates(table) for name, table in tables.items()})


def fates(table: Mapping[str, fate.Fate]) -> str:
    rows = [
        f"| `{name}` | {fated.kind} | {cell(fated.becomes.replace('{name}', 'NAME'))} |"
        for name, fated in table.items()
    ]
    return "\n".join(["| field | | |", "|---|---|---|", *rows])


def json_schema() -> str:
    return msgspec.json.format(msgspec.json.encode(schema.schema()), indent=2).decode() + "\n"


def states() -> str:
    parts = ["# States", ABOUT_STATES]
    for name, (about, table) in MACHINES.items():
        parts += [f"## {name}", about.strip(), diagram(table)]
    return "\n\n".join(parts) + "\n"


def diagram(table: Mapping[StrEnum, frozenset[StrEnum]]) -> str:
    order = list(table)
    lines = [f"    [*] --> {order[0]}"]
    for state in order:
        lines += [f"    {state} --> {after}" for after in sorted(table[state], key=order.index)]
        if not table[state]:
            lines.append(f"    {state} --> [*]")
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def command_line() -> str:
    parts = ["# Command line", ABOUT_CLI]
    root = click.Context(cli.styx, info_name=cli.PROGRAM)
    for title, section in commands.SECTIONS.items():
        parts.append(f"## {title}")
        for name in section:
            command = cli.styx.get_command(root, name)
            assert command is not None
            parts += described(command, name, root, 3)
    return "\n\n".join(parts) + "\n"


def described(
    command: click.Command, name: str, parent: click.Context, depth: int
) -> Iterator[str]:
    """Usage, help and options, then the same of each sub-command."""
    context = click.Context(command, info_name=name, parent=parent)
    yield f"{'#' * depth} {context.command_path}"
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"```text\n{usage}\n```"
    yield inspect.cleandoc(command.help or command.short_help or "").replace("\b\n", "")
    options = [option_row(one) for one in command.params if isinstance(one, click.Option)]
    if rows := [row for row in options if row]:
        yield "\n".join(["| option | |", "|---|---|", *rows])
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            child = command.get_command(context, sub)
            assert child is not None
            yield from described(child, sub, context, depth + 1)


def option_row(option: click.Option) -> str:
    if option.hidden:
        return ""
    takes_value = not option.is_flag and not option.count
    names = ", ".join([*option.opts, *option.secondary_opts])
    value = f" {value_of(option)}" if takes_value else ""
    return f"| `{cell(names + value)}` | {cell(option.help or '')} |"


def value_of(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(str(choice) for choice in option.type.choices)
    return option.type.name.upper()


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def metrics() -> str:
    rows = [
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | "
        f"{'leader' if leading else 'every'} | {cell(about)} |"
        for name, kind, about, labels, leading in measures.ALL
    ]
    rules = yaml.safe_load((DOCS.parent / "deploy/prometheus/styx.rules.yml").read_text())
    alerts = [
        f"| `{rule['alert']}` | {rule['labels']['severity']} | "
        f"{cell(rule['annotations']['summary'])} | {cell(rule['annotations']['runbook'])} |"
        for rule in rules["groups"][0]["rules"]
    ]
    return "\n\n".join(
        [
            "# Metrics",
            ABOUT_METRICS,
            "\n".join(["| name | kind | labels | server | |", "|---|---|---|---|---|", *rows]),
            "## Alerts",
            "\n".join(["| alert | severity | | look first |", "|---|---|---|---|", *alerts]) + "\n",
        ]
    )


def main() -> int:
    for name, text in pages().items():
        (DOCS / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
