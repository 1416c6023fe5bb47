"""Automations: what starts a flow besides a clock. `make deploy` runs this; twice leaves one of each.

They cannot stand in prefect.yaml, and creating one again would make a second: here they are found by name.
"""

from __future__ import annotations

from datetime import timedelta

from prefect.automations import Automation, EventTrigger, Posture, RunDeployment
from prefect.client.orchestration import get_client

from flows.nightly import DRIFT, RESOURCE

RETRAIN_ON_DRIFT = "tailorbird: retrain on drift"
"""Its name, by which it is found again."""

AT_MOST_EVERY = timedelta(days=3)
"""A drift is there for weeks, and every night says so: more than two retrainings a week would learn nothing new."""


def upsert() -> None:
    """Make `retrain/weekly` run whenever a night says `tailorbird.drift`; the deployment must be there.

    Raises:
        prefect.exceptions.ObjectNotFound: `retrain/weekly` is not deployed.
    """
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("retrain/weekly")
        known = client.read_automations_by_name(RETRAIN_ON_DRIFT)
    wanted = Automation(
        name=RETRAIN_ON_DRIFT,
        description="The world has moved since the champion was trained.",
        trigger=EventTrigger(
            expect={DRIFT},
            match={"prefect.resource.id": RESOURCE},
            posture=Posture.Reactive,
            threshold=1,
            within=AT_MOST_EVERY,
        ),
        actions=[RunDeployment(source="selected", deployment_id=deployment.id, parameters={})],
    )
    if not known:
        wanted.create()
        return
    wanted.id = known[0].id
    wanted.update()
    for more in known[1:]:
        Automation(**more.model_dump()).delete()


if __name__ == "__main__":
    upsert()
