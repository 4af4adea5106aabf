"""nbgrader's settings for this course folder: read by every nbgrader command that is given in it."""

import importlib.util
import os
import sys
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager

HERE = Path(__file__).resolve().parent

# a package that is missing where students' code runs would score 0 for everyone, in silence
needed = ("tokentm", "torch", "timm", "numpy", "matplotlib", "torchmetrics", "ipykernel")
missing = [package for package in needed if importlib.util.find_spec(package) is None]
if missing:
    sys.exit(f"expected the packages {', '.join(missing)} beside nbgrader: pip install tokentm[teaching]")
runs = KernelSpecManager().get_kernel_spec("python3").argv[0]
if os.path.isabs(runs) and Path(runs).resolve() != Path(sys.executable).resolve():
    sys.exit(
        f"expected the kernel python3 to run {sys.executable}, found {runs}: python -m ipykernel install --sys-prefix"
    )

os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HERE / "grader"), os.environ.get("PYTHONPATH"))))

c = get_config()  # noqa: F821  (a name that nbgrader gives)
c.CourseDirectory.root = str(HERE)
c.CourseDirectory.course_id = "tokentm"
c.ClearSolutions.code_stub = {"python": "...  # your turn"}
c.ClearSolutions.text_stub = "Your answer here."
c.ClearMarkScheme.enforce_metadata = False  # rubrics stand inside the model answers, which go first
c.GenerateSolution.preprocessors = [
    f"nbgrader.preprocessors.{name}" for name in ("ClearOutput", "ClearHiddenTests", "ClearMarkScheme")
]
c.OverwriteCells.add_missing_cells = True
c.Execute.timeout = 600  # seconds a cell
c.FileNameCollectorPlugin.named_regexp = r".*?(?P<student_id>\w+?)_(?P<file_id>A\d_\w+)\.ipynb"
