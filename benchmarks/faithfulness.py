"""Put every method and ablation to every test on demo scenes, and renew the tables in faithfulness.md.

    python benchmarks/faithfulness.py --work DIR      # about two hours on two cores; can be stopped and run again

Choices between readings were made on the validation scenes alone; the tables are of test scenes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
from pathlib import Path

from tokentm.evaluation.__main__ import main as evaluate
from tokentm.evaluation.report import Estimate, as_markdown, as_verdicts

PAGE = Path(__file__).with_name("faithfulness.md")
READINGS = "tokentm,generic_attention,ablations,tokentm_libragrad"
RUNS = {
    "validation/segmentation": ("demo:validation", READINGS, 400, 20),
    "validation/perturbation": ("demo:validation", READINGS, 400, 20),
    "validation/discrimination": ("demo:validation", READINGS, 400, 20),
    "test/segmentation": ("demo", "all,ablations", 1000, 20),
    "test/perturbation": ("demo", "all,ablations", 1000, 20),
    "test/discrimination": ("demo", "all,ablations", 500, 20),
    "test/saco": ("demo", "all,ablations", 100, 20),
    "test/sanity": ("demo", "all", 40, 10),
}


def tables(work: Path, name: str) -> str:
    summary = json.loads((work / name / "summary.json").read_text(encoding="utf-8"))
    estimates = [Estimate(**one) for one in summary["estimates"]]
    # where every label is predicted right both cases are nearly the same: the page shows the predicted class
    shown = [e for e in estimates if e.case != "labelled class" or "segmentation" in name]
    verdicts = "" if "sanity" in name else "\n" + as_verdicts(shown)
    return as_markdown(shown) + verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    work = parser.parse_args().work
    for name, (data, methods, limit, batch) in RUNS.items():
        arguments = ["--data", data, "--methods", methods, "--limit", str(limit), "--batch", str(batch)]
        if evaluate([name.split("/")[1], *arguments, "--out", str(work / name)]):
            raise SystemExit(1)
    page = PAGE.read_text(encoding="utf-8")
    for name in RUNS:
        found = f"<!-- {name} -->\n\n{tables(work, name).strip()}\n\n<!-- end -->"
        page = re.sub(rf"<!-- {name} -->.*?<!-- end -->", lambda _, found=found: found, page, flags=re.DOTALL)
    settings = json.loads((work / "test/segmentation/settings.json").read_text(encoding="utf-8"))
    versions = ", ".join(f"{package} {version}" for package, version in settings["versions"].items())
    machine = f"Machine: {platform.machine()}, {os.cpu_count()} cores, device {settings['device']}; {versions}."
    page = re.sub(
        r"<!-- machine -->.*?<!-- end -->", f"<!-- machine -->\n{machine}\n<!-- end -->", page, flags=re.DOTALL
    )
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
