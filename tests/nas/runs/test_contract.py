"""Optuna's own contract of a storage, over the journal of a run and over what tries again for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.testing.pytest_storages import StorageTestCase

from nas.runs.storage import open_journal, patient


class TestJournal(StorageTestCase):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> BaseStorage:
        return open_journal(tmp_path / "journal.log")


class TestPatient(StorageTestCase):
    @pytest.fixture
    def storage(self) -> BaseStorage:
        return patient(InMemoryStorage(), "memory", 1.0)
