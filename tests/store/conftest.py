"""What all tests of the store share."""

import pytest

pytest.register_assert_rewrite(
    "tests.store.contract",
    "tests.store.questions_contract",
    "tests.store.versions_contract",
    "tests.store.rollups_contract",
    "tests.store.partition_contract",
)
