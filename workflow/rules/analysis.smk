# Tables in, verdicts out. The claims are an input: a changed claim is judged anew, on old runs.
rule analyse:
    input:
        study=rules.study.output.study,
        runs=rules.collect.output.runs,
        curves=rules.collect.output.curves,
        selection=rules.collect.output.selection,
        probes=rules.collect.output.probes,
        claims=sources(STUDY.claims),
    output:
        verdicts=f"{RESULTS}/analysis/verdicts.json",
        facts=f"{RESULTS}/analysis/facts.json",
        mixed_model=f"{RESULTS}/analysis/mixed_model.json",
        tables=ANALYSIS_TABLES,
    log:
        f"{RESULTS}/logs/analyse.log",
    benchmark:
        f"{RESULTS}/benchmarks/analyse.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        code=LIBRARY,
        claims=lambda wildcards: STUDY.claims,
        claims_digest=source_digest([STUDY.claims]),
        folder=lambda wildcards, output: str(Path(output.verdicts).parent),
        more=lambda wildcards, input: [
            f"--{name}={file}"
            for name in ("selection", "probes")
            for file in ([input[name]] if input[name] else [])
        ],
    shell:
        "python scripts/analyse.py --study {input.study:q} --runs {input.runs:q} "
        "--curves {input.curves:q} {params.more:q} --claims {params.claims:q} --out {params.folder:q} "
        "> {log:q} 2>&1"
