# The study that this run is about, and what the rules ask about it. Nothing here is heavy: no
# torch, no network, nothing read but the study, the claims and the library's source.
from bnorder.data import folder_state
from bnorder.devices import cuda_devices
from bnorder.dictionary import tables
from bnorder.language import CODES, language
from bnorder.locks import check_results
from bnorder.records import code_hash, source_hash
from bnorder.study import dataset_slug
from bnorder.summary import summary
from bnorder.workflow import (
    check_claims,
    check_folders,
    chosen,
    configured_study,
    figure_labels,
    full_disk,
    memory_kills,
    or_exit,
    published_source,
    results_folder,
    set_options,
    setting,
    short_of_memory,
)

TEMPLATE_SUFFIXES = (".css", ".html", ".j2", ".js", ".mplstyle", ".svg", ".yaml")

or_exit(lambda: check_results(Path("results")))
STUDY_FILE, OVERRIDES, STUDY = or_exit(lambda: configured_study(config))
or_exit(lambda: check_claims(STUDY.claims))
ALLOW_MISSING = or_exit(lambda: setting(config, "allow_missing"))
# Jobs that share a GPU cannot be counted in whole GPUs: each waits for its place by itself.
ALONE = STUDY.jobs_per_gpu == 1
ARCHIVE = or_exit(lambda: setting(config, "archive"))
GPUS_PER_JOB = or_exit(lambda: setting(config, "gpu", int(ALONE and bool(cuda_devices()))))

SET_OVERRIDES = set_options(OVERRIDES)

RESULTS = str(results_folder(config, STUDY))
PUBLISHED = or_exit(lambda: published_source(config))  # takes the place of training, or None


def reported_table(table):
    """A table's .csv as an output that Snakemake's report shows."""
    return report(
        f"{RESULTS}/{table.path}.csv",
        caption=f"../report/tables/{table.name}.rst",
        category="Tables",
        labels={"Table": table.name, "One row": table.row},
    )


DATASETS = {dataset_slug(dataset): dataset for dataset in STUDY.datasets}
# The study's own jobs, and those on which it makes a selection.
PARTS = {job.name: part for part in STUDY.parts() for job in part.jobs()}
# The selection first, so that an unfinished study has it for the seeds that are whole.
JOBS = {job.name: job for part in reversed(STUDY.parts()) for job in part.jobs()}
JOB_PRIORITIES = {name: len(JOBS) - place for place, name in enumerate(JOBS)}
RECORDS = [f"{RESULTS}/records/{name}.jsonl" for name in JOBS]
# Digests of source without its comments: a rule re-runs when the code behind it changes. What
# follows training takes seconds, so any change of the library redoes it; no list to keep.
LIBRARY = source_hash(sorted(Path("bnorder").rglob("*.py")))
DATA_SOURCE = source_hash([Path("bnorder/data.py")])
TEMPLATES = sorted(
    str(p)
    for p in Path("report").rglob("*")
    if p.suffix in TEMPLATE_SUFFIXES and not p.is_relative_to("report/published")
)
COLLECTED = ["runs", "curves", *["selection"] * bool(STUDY.selection), *["probes"] * STUDY.probes]
# As .csv they stand in Snakemake's own report (`snakemake --report report.zip`), with captions.
ANALYSIS_TABLES = [
    *(reported_table(table) for table in tables("analysis")),
    *(f"{RESULTS}/{table.path}.parquet" for table in tables("analysis")),
]
KILLS_BEFORE = memory_kills()
# The English report is report.html; another language's has its code in its name.
LANG = or_exit(lambda: chosen(config, "lang", CODES))
OWN = "" if LANG == "en" else f".{LANG}"
REPORTS = [f"{RESULTS}/report/report{OWN}.{kind}" for kind in ("html", "pdf")]


wildcard_constraints:
    dataset=r"[A-Za-z0-9_]+",
    job=r"[A-Za-z0-9_.-]+\.s\d+-\d+(-[0-9a-f]{8})?",


def uses_conda():
    methods = workflow.deployment_settings.deployment_method
    return any(method.name == "CONDA" for method in methods)


def slug_of(job):
    return dataset_slug(JOBS[job].dataset)


def stored_elsewhere():
    """Do inputs and outputs travel through a bucket, as on Kubernetes?"""
    return workflow.storage_settings.default_storage_provider is not None


def sources(files):
    """Files of the repository as a rule's input; none where each pod has the repository anyway.

    Snakemake would look for them in the bucket; marked as local, they would keep the job from it.
    """
    return [] if stored_elsewhere() else files


def source_digest(files):
    """What re-runs a rule whose `sources` are no input of it."""
    return source_hash([Path(file) for file in files]) if stored_elsewhere() else ""


def recorded(records):
    """The published records, those that there are (`allow_missing=1` makes do with them), or all."""
    if PUBLISHED:
        return sorted(str(path) for path in PUBLISHED.glob("*.parquet"))
    return [r for r in records if Path(r).exists()] if ALLOW_MISSING else records


def datasets_to_train():
    """The data sets of those jobs that have no records yet; none where nothing is trained."""
    if PUBLISHED or ALLOW_MISSING or stored_elsewhere():
        return set()
    lacking = [not Path(record).exists() for record in RECORDS]
    return {job.dataset for job, lacks in zip(JOBS.values(), lacking) if lacks}


# A dry run says it, too.
or_exit(lambda: check_folders(datasets_to_train()))


def closing_words():
    """The verdicts and where the reports are; `make report` says so itself, done or not."""
    later = os.getenv("BNORDER_SUMMARY") == "later"
    return "" if later else or_exit(lambda: summary(Path(RESULTS)))


def failure_words():
    scheduler = workflow.scheduler
    failed = scheduler is None or bool(scheduler.failed)  # and not Ctrl-C or a SIGTERM alone
    # A job on a full disk may be unable to say so: its log lies there as well.
    words = full_disk(Path(RESULTS)) + short_of_memory(KILLS_BEFORE, memory_kills())
    where = f"logs under {RESULTS}/logs/ (of data sets: results/data/logs/)"
    state = f"the failed jobs stand above, their {where}" if failed else f"it was stopped; {where}"
    words += [
        f"Study {STUDY.name} is not finished: {state}.",
        "The same command goes on from what is finished.",
    ]
    if not ALLOW_MISSING and not all(Path(record).exists() for record in RECORDS):
        words.append("A report that says what is missing: make report ALLOW_MISSING=1 …")
        words.append("(or snakemake --config allow_missing=1 …).")
    return "\n".join(words)
