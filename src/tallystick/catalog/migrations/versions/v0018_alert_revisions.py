"""A revision of alerts and limits, so that whoever keeps them reads them again for a change of theirs alone."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "INSERT INTO revisions (topic, revision) SELECT 'alerts', revision FROM revisions WHERE topic = 'all'"
    )
