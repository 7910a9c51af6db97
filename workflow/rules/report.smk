# Tables and verdicts in, one HTML file and one PDF out, from the same templates.
rule report:
    input:
        study=rules.study.output.study,
        runs=rules.collect.output.runs,
        curves=rules.collect.output.curves,
        missing=rules.collect.output.missing,
        verdicts=rules.analyse.output.verdicts,
        mixed_model=rules.analyse.output.mixed_model,
        analysis=rules.analyse.output.tables,
        templates=TEMPLATES,
    output:
        html=REPORTS[0],
        pdf=REPORTS[1],
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        code=LIBRARY,
        folder=lambda wildcards, output: str(Path(output.html).parent),
        tables=lambda wildcards, input: str(Path(input.runs).parent),
        analysis=lambda wildcards, input: str(Path(input.verdicts).parent),
    shell:
        "python scripts/render.py --study {input.study:q} --tables {params.tables:q} "
        "--analysis {params.analysis:q} --out {params.folder:q} > {log:q} 2>&1"
