"""Whether an export is whole: every manifest follows the one before it, and every file is what its manifest says."""

from dataclasses import dataclass
from hashlib import sha256

from tallystick.lake.interface import Place
from tallystick.lake.manifest import decoded, digest_of, name_of


@dataclass(frozen=True, slots=True)
class Verified:
    """What manifests name; `faults`: what is not as they say, in words."""

    manifests: int
    files: int
    rows: int
    to: str | None
    faults: tuple[str, ...]


def verify(place: Place) -> Verified:
    """Read all of it. Raises Unavailable, Invalid."""
    faults: list[str] = []
    number, files, rows = 0, 0, 0
    previous: str | None = None
    end: str | None = None
    while (content := place.read(name_of(number + 1))) is not None:
        number += 1
        manifest = decoded(content)
        if manifest is None:
            faults.append(f"{name_of(number)} is no manifest.")
            break
        if (manifest.number, manifest.previous, manifest.from_) != (number, previous, end):
            faults.append(f"{name_of(number)} does not follow the one before it.")
        for file in manifest.files:
            written = place.read(file.path)
            if written is None:
                faults.append(f"{file.path} is missing.")
            elif (len(written), sha256(written).hexdigest()) != (file.bytes, file.sha256):
                faults.append(f"{file.path} is not what was written.")
            files += 1
        rows += manifest.rows
        previous, end = digest_of(content), manifest.to
    return Verified(number, files, rows, end, tuple(faults))
