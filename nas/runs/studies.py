"""What a run asks of Optuna beyond its public interface, in one place: pyproject.toml bounds Optuna's version for it.

Optuna's own `ask` creates a trial and then writes attribute by attribute, and draws where the queue is empty; `tell`
wants a trial of its own. Workers that die between any two writes need more control than that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    import optuna


def study_attrs(study: optuna.Study, storage: optuna.storages.BaseStorage) -> dict[str, Any]:
    """The study's own attributes."""
    return storage.get_study_user_attrs(study._study_id)


def set_study_attr(study: optuna.Study, storage: optuna.storages.BaseStorage, key: str, value: Any) -> None:
    storage.set_study_user_attr(study._study_id, key, value)


def waiting_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The queue, the oldest first."""
    return study.get_trials(deepcopy=False, states=(TrialState.WAITING,))


def claim(study: optuna.Study, storage: optuna.storages.BaseStorage) -> optuna.Trial | None:
    """Take the oldest trial that waits; None when the queue is empty."""
    import optuna

    for waiting in waiting_trials(study):
        # Another worker may have taken it a moment ago.
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            if storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING):
                return optuna.Trial(study, waiting._trial_id)
    return None


def begin(study: optuna.Study, template: FrozenTrial) -> optuna.Trial:
    """A running trial as in `template`: one write, and no queue that another worker takes it from."""
    import optuna

    return optuna.Trial(study, study._storage.create_new_trial(study._study_id, template_trial=template))


def set_trial_attr(storage: optuna.storages.BaseStorage, trial: FrozenTrial, key: str, value: Any) -> None:
    storage.set_trial_user_attr(trial._trial_id, key, value)


def end_trial(storage: optuna.storages.BaseStorage, trial: FrozenTrial, state: TrialState,
              values: Sequence[float] | None = None) -> None:
    """End somebody else's trial."""
    storage.set_trial_state_values(trial._trial_id, state, values)


def is_lasting(entry: dict[str, Any]) -> bool:
    """Whether a power cut must not undo this entry of a journal: what studies hold, and every trial's end."""
    from optuna.storages.journal._storage import JournalOperation as Operation

    code = entry.get("op_code")
    return (code in (Operation.CREATE_STUDY, Operation.SET_STUDY_USER_ATTR)
            or (code == Operation.SET_TRIAL_STATE_VALUES and TrialState(entry["state"]).is_finished()))
