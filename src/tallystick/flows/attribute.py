"""Whom an event belongs to: subject → customer, at the moment of recording.

The answer is written into the recorded event and never asked again: a subject that moves to another customer later
leaves its history where it was.
"""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tallystick.catalog.interface import Catalog

_compute: Any = pc  # its functions are made at import and unknown to type checkers


QUARANTINED = ""
"""The customer of an event that is recorded and counts for nobody (setting `unknown_subject`)."""


class SubjectMap:
    """The catalog's subjects in memory, brought up to date by revision. One thread at a time refreshes it."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._owners: dict[str, dict[str, str]] = {}
        self._revision = 0

    def owners(self, tenant: str) -> dict[str, str]:
        """Subject → customer, as of the last `refresh`."""
        return self._owners.setdefault(tenant, {})

    def refresh(self) -> None:
        """Take over what changed in the catalog since the last time."""
        if self._catalog.revision("subjects") == self._revision:
            return
        complete = False
        while not complete:
            changes = self._catalog.subject_changes(self._revision)
            for (tenant, subject), customer in changes.owners.items():
                owners = self.owners(tenant)
                if customer is None:
                    owners.pop(subject, None)
                else:
                    owners[subject] = customer
            self._revision = changes.revision
            complete = changes.complete


class Attribution:
    """The recorder's subjects. One thread (the recorder's) uses it."""

    def __init__(self, catalog: Catalog, *, unknown_subject: str = "create") -> None:
        self._catalog = catalog
        self._subjects = SubjectMap(catalog)
        self._creates = unknown_subject == "create"
        self.left_out = 0
        """Grows whenever a subject is found that belongs to nobody, and gets no customer."""

    def refresh(self) -> None:
        """Take over what changed in the catalog since the last time."""
        self._subjects.refresh()

    def customers(self, tenant: pa.ChunkedArray, subject: pa.ChunkedArray, *, now_us: int) -> pa.Array:
        """The customer of every row (dictionary-encoded strings). Unknown subjects get a customer of
        their own name, or are left out (QUARANTINED), as the setting has it."""
        tenants = _compute.unique(tenant).to_pylist()
        if len(tenants) == 1:
            return self._of_tenant(tenants[0], subject, now_us)
        customers = pa.nulls(len(subject), pa.string())
        for key in tenants:
            mask = _compute.equal(tenant, key)
            mask = mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask
            own = self._of_tenant(key, _compute.filter(subject, mask), now_us).cast(pa.string())
            customers = _compute.replace_with_mask(customers, mask, own)
        return customers.dictionary_encode()

    def _of_tenant(self, tenant: str, subject: pa.ChunkedArray, now_us: int) -> pa.DictionaryArray:
        encoded = _compute.dictionary_encode(subject)
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        subjects: list[str] = encoded.dictionary.to_pylist()
        owners = self._subjects.owners(tenant)
        unknown = [name for name in subjects if name not in owners]
        if unknown and not self._creates:
            # Where they are refused on the way in, a few come through: while the catalog is down, or when a subject is
            # taken away meanwhile. What has been acknowledged is never thrown away.
            self.left_out += len(unknown)
        elif unknown:
            owners.update(self._catalog.create_unknown(tenant, unknown, now_us=now_us))
        # Two subjects of one customer are one entry: the engine refuses a dictionary with an entry twice.
        customers = [owners.get(name, QUARANTINED) for name in subjects]
        entries = {customer: index for index, customer in enumerate(dict.fromkeys(customers))}
        codes = pa.array([entries[customer] for customer in customers], pa.int32())
        return pa.DictionaryArray.from_arrays(
            codes.take(encoded.indices), pa.array(list(entries), pa.string())
        )
