# The effective study, and each data set as one file of uint8 tensors with its checksum beside it.
localrules:
    study,
    data,


rule study:
    input:
        study=sources(str(STUDY_FILE)),
    output:
        study=f"{RESULTS}/study.yaml",
    log:
        f"{RESULTS}/logs/study.log",
    benchmark:
        f"{RESULTS}/benchmarks/study.tsv"
    # Before any training: on a full cluster a report of what there is needs this file.
    priority: len(JOBS) + 1
    conda:
        "../../environment.yml"
    resources:
        mem_mb=500,
        runtime=5,
    params:
        study=lambda wildcards: str(STUDY_FILE),
        effective=STUDY.as_yaml(),
        overrides=SET_OVERRIDES,
    shell:
        "python scripts/study.py --study {params.study:q} {params.overrides:q} "
        "--out {output.study:q} > {log:q} 2>&1"


rule data:
    # `update`: Snakemake would else delete an old cache first, from under the jobs of another study
    # that read it; scripts/data.py replaces a whole file at once.
    output:
        data=update("results/data/{dataset}.pt"),
        checksum=update("results/data/{dataset}.json"),
    log:
        "results/data/logs/{dataset}.log",
    benchmark:
        "results/data/benchmarks/{dataset}.tsv"
    # Or all of one data set would be trained before the next is read, and no seed be whole.
    priority: len(JOBS) + 1
    conda:
        "../../environment.yml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        dataset=lambda wildcards: DATASETS[wildcards.dataset],
        code=DATA_SOURCE,
        # Not from `output`: what is made of that is no reason to run again.
        source=lambda wildcards: folder_state(
            DATASETS[wildcards.dataset], Path(f"results/data/{wildcards.dataset}.pt")
        ),
        folders=[f"--data-dir={folder}" for folder in STUDY.data_dirs],
    shell:
        "python scripts/data.py --dataset {params.dataset:q} {params.folders:q} "
        "--out {output.data:q} > {log:q} 2>&1"
