"""A published study as a Workflow Run RO-Crate: the workflow, what went in, what came out.

Follows RO-Crate 1.1 and the Workflow Run Crate profile 0.5 (w3id.org/ro/wfrun/workflow/0.5).
"""

import json
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bnorder import __version__
from bnorder.files import replacing
from bnorder.publishing.archive import project_files
from bnorder.publishing.published import PUBLISHED, read_manifest, sha256

METADATA = "ro-crate-metadata.json"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
CONTEXT = [
    "https://w3id.org/ro/crate/1.1/context",
    "https://w3id.org/ro/terms/workflow-run/context",
]
AUTHORS = "#authors"
FORMATS = {
    ".parquet": "application/vnd.apache.parquet",
    ".html": "text/html",
    ".pdf": "application/pdf",
    ".json": "application/json",
    ".yaml": "application/yaml",
    ".csv": "text/csv",
    ".png": "image/png",
}
# What a file of a published study is to the workflow: a parameter's name, and what it says.
INPUTS = {
    "study.yaml": ("study", "The study, every default filled in"),
    "claims.yaml": ("claims", "The claims as they were judged"),
}
OUTPUTS = {
    "records.parquet": ("records", "One row a run: its curve, cost, versions and checksums"),
    "probes.parquet": ("probes", "One row a number measured inside a network, to three digits"),
    "verdicts.json": ("verdicts", "Every claim's verdict with all numbers behind it"),
    "report.html": ("report", "The report, one file"),
    "report.pdf": ("printed_report", "The report as a tagged PDF"),
    "manifest.json": ("manifest", "What made these files"),
    "costs.csv": ("costs", "What each training job cost"),
    "answer.png": ("figure", "Test accuracy of every run"),
}  # fmt: skip
Entity = dict[str, Any]


def write_crate(root: Path, folder: Path, path: Path) -> None:
    """Write the crate of the published study in `folder` as a .zip, whole or not at all.

    It holds the project without its tests and without other studies' results, so it runs.
    """
    ours = folder.relative_to(root)
    files = [f for f in project_files(root) if not f.is_relative_to("tests")]
    files = [f for f in files if not f.is_relative_to(PUBLISHED) or f.is_relative_to(ours)]
    text = json.dumps(metadata(root, folder), indent=1, ensure_ascii=False) + "\n"
    with replacing(path) as partial, zipfile.ZipFile(partial, "w") as crate:
        _add(crate, METADATA, text.encode())
        for name, file in _members(root, files):
            executable = bool((root / file).stat().st_mode & 0o100)
            _add(crate, str(name), (root / file).read_bytes(), executable)


def _members(root: Path, files: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """The name of each file in the crate, and the file; links are followed within the project.

    Not every program that unpacks a .zip makes links, and Snakemake finds its profile by one.
    """
    for file in files:
        if (root / file).is_symlink():
            target = (root / file).resolve().relative_to(root.resolve())
            there = [other for other in files if other.is_relative_to(target)]
            yield from ((file / other.relative_to(target), other) for other in there)
        else:
            yield file, file


def _add(crate: zipfile.ZipFile, name: str, content: bytes, executable: bool = False) -> None:
    """A member with the same time always: the same content gives the same bytes."""
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    crate.writestr(member, content, zipfile.ZIP_DEFLATED)


def metadata(root: Path, folder: Path) -> Entity:
    """ro-crate-metadata.json of a published study."""
    manifest = read_manifest(folder)
    ours = str(folder.relative_to(root))
    inputs = [_file(folder, ours, name, *said) for name, said in INPUTS.items()]
    there = {name: said for name, said in OUTPUTS.items() if (folder / name).exists()}
    outputs = [_file(folder, ours, name, *said) for name, said in there.items()]
    parameters = [
        _parameter(name, Path(file), needed)
        for needed, files in ((True, INPUTS), (False, there))
        for file, (name, _) in files.items()
    ]
    entities = [
        _descriptor(),
        _root(manifest, [*inputs, *outputs]),
        *(_profile(address, name) for address, name in PROFILES.items()),
        _workflow(parameters),
        _language(),
        _action(manifest, inputs, outputs),
        {
            "@id": "README.md",
            "@type": "File",
            "name": "README.md",
            "description": "The answer, how to get it again, and what it costs",
            "about": {"@id": "./"},
            "encodingFormat": "text/markdown",
        },
        {"@id": AUTHORS, "@type": "Organization", "name": "The bnorder authors"},
        {
            "@id": "https://spdx.org/licenses/MIT",
            "@type": "CreativeWork",
            "name": "MIT licence",
            "description": "Permits use, change and distribution with the notice in LICENSE",
        },
        *parameters,
        *inputs,
        *outputs,
    ]
    return {"@context": CONTEXT, "@graph": entities}


def _ids(entities: list[Entity]) -> list[Entity]:
    return [{"@id": entity["@id"]} for entity in entities]


def _descriptor() -> Entity:
    return {
        "@id": METADATA,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": [
            {"@id": "https://w3id.org/ro/crate/1.1"},
            {"@id": "https://w3id.org/workflowhub/workflow-ro-crate/1.0"},
        ],
    }


def _root(manifest: Mapping[str, Any], files: list[Entity]) -> Entity:
    runs = manifest["runs"]
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": f"bnorder: the study {manifest['study']}",
        "description": "Batch normalisation before or after the activation: "
        f"{runs['published']} of {runs['planned']} runs, verdicts and report.",
        "datePublished": manifest["published"],
        "license": {"@id": "https://spdx.org/licenses/MIT"},
        "author": {"@id": AUTHORS},
        "publisher": {"@id": AUTHORS},
        "conformsTo": [{"@id": address} for address in PROFILES],
        "mainEntity": {"@id": "Snakefile"},
        "hasPart": [{"@id": "Snakefile"}, {"@id": "README.md"}, *_ids(files)],
        "mentions": {"@id": "#run"},
    }


def _profile(address: str, name: str) -> Entity:
    version = address.rpartition("/")[2]
    return {"@id": address, "@type": "CreativeWork", "name": name, "version": version}


def _workflow(parameters: list[Entity]) -> Entity:
    given = [p for p in parameters if p["valueRequired"]]
    return {
        "@id": "Snakefile",
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
        "name": "bnorder",
        "version": __version__,
        "encodingFormat": "text/plain",
        "conformsTo": {"@id": "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"},
        "programmingLanguage": {"@id": "#snakemake"},
        "license": {"@id": "https://spdx.org/licenses/MIT"},
        "creator": {"@id": AUTHORS},
        "input": _ids(given),
        "output": _ids([p for p in parameters if p not in given]),
    }


def _language() -> Entity:
    return {
        "@id": "#snakemake",
        "@type": "ComputerLanguage",
        "name": "Snakemake",
        "identifier": {"@id": "https://snakemake.github.io"},
        "url": {"@id": "https://snakemake.github.io"},
    }


def _action(manifest: Mapping[str, Any], inputs: list[Entity], outputs: list[Entity]) -> Entity:
    return {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"The study {manifest['study']}, run",
        "instrument": {"@id": "Snakefile"},
        "agent": {"@id": AUTHORS},
        "object": _ids(inputs),
        "result": _ids(outputs),
        "endTime": manifest["published"],
        "actionStatus": "http://schema.org/CompletedActionStatus",
        "description": "; ".join(
            f"{m['runs']} runs with Python {m['python']}, PyTorch {m['torch']} on {m['device']}"
            for m in manifest["trained_with"]
        ),
    }


def _parameter(name: str, file: Path, needed: bool) -> Entity:
    return {
        "@id": f"#parameter-{name}",
        "@type": "FormalParameter",
        "name": name,
        "additionalType": "File",
        "encodingFormat": FORMATS[file.suffix],
        "valueRequired": needed,
        "conformsTo": {"@id": "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"},
    }


def _file(folder: Path, ours: str, name: str, parameter: str, description: str) -> Entity:
    path = folder / name
    return {
        "@id": f"{ours}/{name}",
        "@type": "File",
        "name": name,
        "description": description,
        "encodingFormat": FORMATS[path.suffix],
        "contentSize": str(path.stat().st_size),
        "sha256": sha256(path),
        "exampleOfWork": {"@id": f"#parameter-{parameter}"},
    }
