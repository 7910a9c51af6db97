# One study in, its report out. `snakemake --config study=article seeds=3` picks the study and
# overrides its keys; the rules stand in rules/, in the order in which data flow.
import os
import sys
from pathlib import Path

from snakemake.utils import min_version

sys.path.insert(0, workflow.basedir)
# Rules call `python`: the one that runs Snakemake, unless conda puts its own before it.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), os.getenv("PATH", "")]))

from bnorder.errors import exit_cleanly
from bnorder.locks import hold_study
from bnorder.report.fonts import require_fonts
from bnorder.workflow import (
    date_back,
    lift_default_rate_limit,
    remember_study_file,
    require_pdf_libraries,
)

min_version("9.20")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/report.smk"


# Every step's files, and not the last one's alone: Snakemake misses no file behind a finished report
# but those it is asked for, and a record that was deleted has to be trained again.
rule all:
    default_target: True
    input:
        rules.study.output,
        recorded(RECORDS),
        rules.collect.output,
        rules.analyse.output,
        rules.report.output.html,
        rules.report.output.pdf,
        [rules.archive.output.pdf] if ARCHIVE else [],


held = []  # locks, until this process ends


onstart:
    # The profiles leave Snakemake's own lock out: it would outlive a killed run.
    exit_cleanly(lambda: held.append(hold_study(Path(RESULTS))))
    exit_cleanly(lambda: date_back(Path(RESULTS), Path("results/data")))
    if not PUBLISHED:
        exit_cleanly(lambda: remember_study_file(Path(RESULTS), Path(STUDY_FILE)))
    # Found now, and not after hours of training. With conda the jobs bring their own.
    if not uses_conda():
        exit_cleanly(require_pdf_libraries)
        exit_cleanly(lambda: require_fonts(language(LANG)))
    from bnorder.progress import show_time_left

    show_time_left(workflow.logger_manager.get_log_handlers())
    lift_default_rate_limit(workflow)


onsuccess:
    print(closing_words(), file=sys.stderr)


onerror:
    print(failure_words(), file=sys.stderr)
