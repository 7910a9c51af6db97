# Tables and verdicts in, one HTML file and one PDF out, from the same templates.
rule report:
    input:
        study=rules.study.output.study,
        runs=rules.collect.output.runs,
        curves=rules.collect.output.curves,
        missing=rules.collect.output.missing,
        verdicts=rules.analyse.output.verdicts,
        facts=rules.analyse.output.facts,
        mixed_model=rules.analyse.output.mixed_model,
        analysis=rules.analyse.output.tables,
        templates=sources(TEMPLATES),
    output:
        html=report(
            REPORTS[0], caption="../report/report.rst", category="Report", labels={"As": "HTML"}
        ),
        pdf=report(
            REPORTS[1], caption="../report/report.rst", category="Report", labels={"As": "PDF"}
        ),
        # Which figures there are depends on the results. A bucket knows no folders; both reports
        # hold the figures anyway.
        figures=(
            []
            if stored_elsewhere()
            else report(
                directory(f"{RESULTS}/report/figures{OWN}"),
                patterns=["{figure}.svg"],
                caption="../report/figure.rst",
                category="Figures",
                labels=figure_labels,
            )
        ),
    log:
        f"{RESULTS}/logs/report{OWN}.log",
    benchmark:
        f"{RESULTS}/benchmarks/report{OWN}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        code=LIBRARY,
        templates=source_digest(TEMPLATES),
        lang=LANG,
        folder=lambda wildcards, output: str(Path(output.html).parent),
        tables=lambda wildcards, input: str(Path(input.runs).parent),
        analysis=lambda wildcards, input: str(Path(input.verdicts).parent),
    shell:
        "python scripts/render.py --study {input.study:q} --tables {params.tables:q} "
        "--analysis {params.analysis:q} --out {params.folder:q} --lang {params.lang} > {log:q} 2>&1"


# The same PDF for an archive (PDF/A-3), with the study and all tables attached: make ARCHIVE=1.
rule archive:
    input:
        study=rules.study.output.study,
        runs=rules.collect.output.runs,
        curves=rules.collect.output.curves,
        missing=rules.collect.output.missing,
        shown=rules.collect.output.shown,
        verdicts=rules.analyse.output.verdicts,
        facts=rules.analyse.output.facts,
        mixed_model=rules.analyse.output.mixed_model,
        analysis=rules.analyse.output.tables,
        templates=sources(TEMPLATES),
    output:
        pdf=f"{RESULTS}/report/report-archive{OWN}.pdf",
    log:
        f"{RESULTS}/logs/archive{OWN}.log",
    benchmark:
        f"{RESULTS}/benchmarks/archive{OWN}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        code=LIBRARY,
        templates=source_digest(TEMPLATES),
        lang=LANG,
        folder=lambda wildcards, output: str(Path(output.pdf).parent),
        tables=lambda wildcards, input: str(Path(input.runs).parent),
        analysis=lambda wildcards, input: str(Path(input.verdicts).parent),
    shell:
        "python scripts/render.py --archive --study {input.study:q} --tables {params.tables:q} "
        "--analysis {params.analysis:q} --out {params.folder:q} --lang {params.lang} > {log:q} 2>&1"
