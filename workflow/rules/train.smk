# One job: some seeds of some arms. What re-trains it: its arms' part of the study, the source that
# decides numbers, the data's checksum. What does not: titles, thresholds, comments, templates.
#
# Its study is the user's file and not results/<study>/study.yaml: behind a job that has to run,
# Snakemake asks no `ancient` dependant whether its params have changed, so a new title would hide
# a new network. (Where results lie in a bucket it is that one, and `collect` then refuses the old
# network's records.) The data are `ancient` too, but for the small checksum that speaks for them.
rule train:
    input:
        study=ancient(f"{RESULTS}/study.yaml" if stored_elsewhere() else str(STUDY_FILE)),
        data=lambda wildcards: ancient(f"results/data/{slug_of(wildcards.job)}.pt"),
        checksum=lambda wildcards: f"results/data/{slug_of(wildcards.job)}.json",
    # `update`: records that are there are left for the job to see; those that fit its study, code
    # and data are kept, so that a data cache made anew, but the same, costs no training.
    output:
        records=update(f"{RESULTS}/records/{{job}}.jsonl"),
    log:
        f"{RESULTS}/logs/train/{{job}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{job}}.tsv"
    # The order of the study's jobs: all arms of the first seeds, then all of the next ones. Left to
    # itself the scheduler takes any, and an interrupted study would be whole for no seed at all.
    priority: lambda wildcards: JOB_PRIORITIES[wildcards.job]
    conda:
        "../../environment.yml"
    # One process with one thread for each core beats threads inside a process.
    threads: 1
    resources:
        # A job that failed is given more, where an engine submits it again.
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        gpu=GPUS_PER_JOB,
    params:
        config=lambda wildcards: PARTS[wildcards.job].job_hash(JOBS[wildcards.job]),
        code=lambda wildcards: code_hash(PARTS[wildcards.job].probes),
        # The study in the bucket has them already, and its name says so.
        overrides=[] if stored_elsewhere() else SET_OVERRIDES,
    # glibc hands every large tensor back to the kernel otherwise, and page faults then cost more
    # than the arithmetic; 32 MiB is the largest mmap threshold that it accepts. Huge pages spare
    # the processor looking up where a page lies.
    shell:
        "GLIBC_TUNABLES=${{GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}} OMP_NUM_THREADS={threads} MALLOC_MMAP_THRESHOLD_=33554432 "
        "MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_TOP_PAD_=268435456 "
        "python scripts/train.py --study {input.study:q} {params.overrides:q} "
        "--job {wildcards.job:q} --data {input.data:q} --out {output.records:q} > {log:q} 2>&1"


# FROM=published it reads published records instead, and nothing above has to run.
rule collect:
    input:
        study=f"{RESULTS}/study.yaml",
        records=recorded(RECORDS),
    output:
        runs=f"{RESULTS}/tables/runs.parquet",
        curves=f"{RESULTS}/tables/curves.parquet",
        missing=f"{RESULTS}/tables/missing.json",
        selection=f"{RESULTS}/tables/selection.parquet" if STUDY.selection else [],
        probes=f"{RESULTS}/tables/probes.parquet" if STUDY.probes else [],
        shown=[reported_table(table) for table in tables("tables") if table.name in COLLECTED],
    log:
        f"{RESULTS}/logs/collect.log",
    benchmark:
        f"{RESULTS}/benchmarks/collect.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        code=LIBRARY,
        folder=lambda wildcards, output: str(Path(output.runs).parent),
        records=lambda wildcards, output: str(PUBLISHED or Path(output.runs).parents[1] / "records"),
        allow_missing=["--allow-missing"] if ALLOW_MISSING or PUBLISHED else [],
    shell:
        "python scripts/collect.py --study {input.study:q} --records {params.records:q} "
        "--out {params.folder:q} {params.allow_missing:q} > {log:q} 2>&1"
