"""``meshd bench --kube --dry-run``: what would be created. Pure."""

from __future__ import annotations

import yaml

from meshd.bench.kube import objects
from meshd.bench.kube.options import SCENARIOS, Options, possible
from meshd.bench.plan import Plan


def dry_run(plan: Plan, options: Options) -> str:
    """All that would be created, as YAML; of the Jobs the first of each scenario's loads."""
    wanted = [*objects.places(plan, options)]
    for scenario in possible(plan.scenarios):
        wanted += objects.scenario(scenario, plan, options)
        for kind in objects.ROUTES:
            wanted += objects.routes(scenario, plan, kind)
    runs = (run for run in plan.runs() if run.round == 1 and run.scenario in SCENARIOS)
    wanted += [objects.job(run, i, plan.seconds, options) for i, run in enumerate(runs, 1)]
    return yaml.dump_all(wanted, Dumper=_PlainDumper, sort_keys=False)


class _PlainDumper(yaml.SafeDumper):
    """For readers: equal parts are written out, and texts of several lines as such."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_PlainDumper.add_representer(str, _text)
