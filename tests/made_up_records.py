"""Records as training leaves them, but made up in a moment, for tests that need many."""

import random

from bnorder.records import Cost, Evaluation, Provenance, Record, code_hash
from bnorder.study import Run, Study

STEPS = (0, 5, 40, 80)
N_TRAIN, N_TEST = 1437, 360


def made_up_records(study: Study) -> list[Record]:
    """One record a run, in the study's order; the same ones every time."""
    generator = random.Random(1)
    code = code_hash(study.probes)
    return [_record(study, run, code, generator) for run in study.runs()]


def _record(study: Study, run: Run, code: str, generator: random.Random) -> Record:
    return Record(
        run=run,
        config_hash=study.config_hash(run.arm),
        code_hash=code,
        data_sha256="da7a" * 16,
        status="finished",
        diverged_step=None,
        n_train=N_TRAIN,
        n_test=N_TEST,
        steps=STEPS[-1],
        parameters=1000,
        curve=tuple(_evaluation(step, generator) for step in STEPS),
        cost=Cost(generator.uniform(1, 2), 1.0, 0.1, 5000.0, 1),
        provenance=Provenance("3.12.1", "2.9.0", "Linux", "cpu", 1),
    )


def _evaluation(step: int, generator: random.Random) -> Evaluation:
    share = min(0.98, 0.1 + step / 90) * generator.uniform(0.95, 1)
    return Evaluation(
        step=step,
        epoch=step / 40,
        test_correct=int(N_TEST * share),
        test_loss=1.0 - share,
        train_seen=32 * step,
        train_correct=int(32 * step * share),
        train_loss=None if step == 0 else generator.random(),
    )
