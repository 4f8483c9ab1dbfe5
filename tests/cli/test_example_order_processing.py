"""The documented example, order processing, as the app under examples/."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy
from freezegun import freeze_time
from sqlalchemy.orm import Session as AnySession

from examples.order_processing import jobs, models
from examples.order_processing.app import app
from examples.order_processing.jobs import CONFIRM_AFTER, ProcessOrderJob, SendConfirmationJob
from kashvi import queue
from kashvi.errors import DriverUnavailable
from kashvi.events import Event, JobDispatched
from tests.servers.launch import RedisServer, until_true

TEA = {"email": "ann@example.com", "sku": "tea", "quantity": 2}


class Web:
    """A customer of the web app; the app's lifespan, and with it workers of its own, does not run."""

    def get(self, path: str) -> httpx.Response:
        return asyncio.run(self._request("GET", path))

    def post(self, path: str, json: Any) -> httpx.Response:
        return asyncio.run(self._request("POST", path, json))

    async def _request(self, method: str, path: str, json: Any = None) -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.request(method, path, json=json)


class Provider:
    """A payment provider that charges once for one key, and can lose a reply."""

    def __init__(self) -> None:
        self.calls = 0
        self.charged: dict[str, int] = {}
        self.replies_to_lose = 0

    def charge_card(self, amount_cents: int, *, key: str) -> str:
        self.calls += 1
        self.charged[key] = amount_cents
        if self.replies_to_lose:
            self.replies_to_lose -= 1
            raise TimeoutError("no reply from the provider")
        return f"payment-of-{key}"


@pytest.fixture(autouse=True)
def default_queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The default queue as in a new program that chose memory, and afterwards as it was."""
    monkeypatch.delenv("KASHVI_REDIS_URL", raising=False)
    monkeypatch.delenv("KASHVI_DATABASE_URL", raising=False)
    default = queue.default()
    before = vars(default).copy()
    vars(default).update(vars(queue.Queue(queue.MemoryDriver())))
    yield
    vars(default).clear()
    vars(default).update(before)


@pytest.fixture(autouse=True)
def database(tmp_path: Path) -> Iterator[None]:
    """An SQLite file with the tables and 100 packets of tea at 450 cents."""
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/orders.db")
    models.Session.configure(bind=engine)
    models.create_tables()
    yield
    models.Session.configure(bind=models.engine)
    engine.dispose()


@pytest.fixture(autouse=True)
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    """What the app charges cards with."""
    provider = Provider()
    monkeypatch.setattr(jobs, "charge_card", provider.charge_card)
    return provider


@pytest.fixture(autouse=True)
def mails(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whom the app has sent a confirmation."""
    sent: list[str] = []
    monkeypatch.setattr(jobs, "send_confirmation", lambda order: sent.append(order.email))
    return sent


@pytest.fixture
def web() -> Web:
    """The web app alone."""
    return Web()


def test_an_order_is_answered_with_201_before_it_is_processed(web: Web, provider: Provider) -> None:
    """The request only stores the order and dispatches its job."""
    answer = web.post("/orders", json=TEA)
    assert answer.status_code == 201
    assert answer.json() == {
        "id": 1,
        "sku": "tea",
        "quantity": 2,
        "amount_cents": 900,
        "status": "pending",
        "paid_at": None,
        "confirmed_at": None,
    }
    assert queue.stats().ready == 1
    assert not provider.calls


def test_an_order_is_paid_and_taken_from_the_stock_when_a_worker_runs(web: Web, provider: Provider) -> None:
    """The job charges the card, updates the stock and leaves a confirmation for later."""
    web.post("/orders", json=TEA)
    queue.work(stop_when_empty=True)
    order = web.get("/orders/1").json()
    assert order["status"] == "paid"
    assert order["paid_at"]
    assert provider.charged == {"order-1": 900}
    assert tea_in_stock() == 98
    assert queue.stats().delayed == 1
    assert not queue.failed_jobs()


def test_the_confirmation_is_sent_when_its_delay_is_over(web: Web, mails: list[str]) -> None:
    """Not before, and once."""
    web.post("/orders", json=TEA)
    with freeze_time() as frozen:
        queue.work(stop_when_empty=True)
        frozen.tick(CONFIRM_AFTER.total_seconds() - 1)
        queue.work(stop_when_empty=True)
        assert not mails
        frozen.tick(1)
        queue.work(stop_when_empty=True)
    assert mails == ["ann@example.com"]
    assert web.get("/orders/1").json()["confirmed_at"]


def test_a_confirmation_that_is_delivered_twice_is_sent_once(web: Web, mails: list[str]) -> None:
    """Delivery is at least once."""
    web.post("/orders", json=TEA)
    queue.dispatch_many([SendConfirmationJob(1), SendConfirmationJob(1)])
    queue.work(stop_when_empty=True)
    assert mails == ["ann@example.com"]


def test_a_job_for_an_order_that_does_not_exist_is_tried_three_times_and_recorded() -> None:
    """It is retried after one second, then after two, and then it is a failed job."""
    with freeze_time() as frozen:
        queue.dispatch(ProcessOrderJob(404))
        queue.work(stop_when_empty=True)
        frozen.tick(1)
        queue.work(stop_when_empty=True)
        assert not queue.failed_jobs()
        frozen.tick(2)
        queue.work(stop_when_empty=True)
    [failed] = queue.failed_jobs()
    assert failed.job == ProcessOrderJob(404)
    assert failed.attempts == 3
    assert failed.error.startswith("NoResultFound: ")


def test_a_job_that_is_delivered_twice_charges_once(web: Web, provider: Provider) -> None:
    """The second run finds the order paid."""
    web.post("/orders", json=TEA)
    queue.dispatch(ProcessOrderJob(1))
    queue.work(stop_when_empty=True)
    assert provider.calls == 1
    assert tea_in_stock() == 98
    assert not queue.failed_jobs()


def test_a_charge_whose_reply_was_lost_is_not_made_again(web: Web, provider: Provider) -> None:
    """The job can't know, so it asks again with the same key."""
    provider.replies_to_lose = 1
    web.post("/orders", json=TEA)
    with freeze_time() as frozen:
        queue.work(stop_when_empty=True)
        assert status_of(1) is models.Status.PENDING
        frozen.tick(1)
        queue.work(stop_when_empty=True)
    assert status_of(1) is models.Status.PAID
    assert provider.calls == 2
    assert provider.charged == {"order-1": 900}


def test_two_runs_at_the_same_time_take_from_the_stock_once(
    web: Web, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both saw the order pending and charged it with its key; one of them marks it paid."""

    def overtaken(amount_cents: int, *, key: str) -> str:
        monkeypatch.setattr(jobs, "charge_card", provider.charge_card)
        ProcessOrderJob(1).handle()
        return provider.charge_card(amount_cents, key=key)

    web.post("/orders", json=TEA)
    monkeypatch.setattr(jobs, "charge_card", overtaken)
    queue.work(stop_when_empty=True)
    assert provider.charged == {"order-1": 900}
    assert tea_in_stock() == 98
    assert not queue.failed_jobs()


def test_an_order_is_committed_when_its_job_is_dispatched(web: Web) -> None:
    """However fast a worker is, it finds the order."""
    found: list[models.Status] = []

    def look(event: Event) -> None:
        if isinstance(event, JobDispatched):
            found.append(status_of(1))

    queue.observe(look)
    web.post("/orders", json=TEA)
    assert found == [models.Status.PENDING]


def test_an_order_that_could_not_be_committed_is_not_dispatched(web: Web) -> None:
    """No job for an order that never was."""

    def full(session: AnySession) -> None:
        raise OSError("the disk is full")

    sqlalchemy.event.listen(models.Session, "before_commit", full)
    try:
        answer = web.post("/orders", json=TEA)
    finally:
        sqlalchemy.event.remove(models.Session, "before_commit", full)
    assert answer.status_code == 500
    assert web.get("/orders/1").status_code == 404
    assert queue.stats().ready == 0


def test_an_order_for_an_unknown_product_is_refused(web: Web) -> None:
    """Nothing is stored and nothing dispatched."""
    assert web.post("/orders", json={**TEA, "sku": "coffee"}).status_code == 422
    assert queue.stats().ready == 0


def test_an_order_is_stored_and_dispatched_later_when_the_queue_is_down(
    web: Web, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The customer must not be told to try again: that would be a second order."""

    def down(job: object) -> str:
        raise DriverUnavailable("connection refused")

    with monkeypatch.context() as patched:
        patched.setattr(queue, "dispatch", down)
        answer = web.post("/orders", json=TEA)
    assert answer.status_code == 201
    assert "order 1 is stored" in caplog.text
    assert queue.stats().ready == 0
    jobs.dispatch_unfinished()
    queue.work(stop_when_empty=True)
    assert status_of(1) is models.Status.PAID


def test_the_web_app_without_redis_works_off_its_orders_itself(web: Web) -> None:
    """Its lifespan starts workers, and dispatches what an earlier run of the app left."""
    web.post("/orders", json=TEA)
    queue.set_driver(queue.MemoryDriver())

    async def run() -> None:
        async with app.router.lifespan_context(app):
            until_true(lambda: status_of(1) is models.Status.PAID, 20)

    asyncio.run(run())
    assert tea_in_stock() == 98
    queue.set_driver(queue.MemoryDriver())  # raises if workers were left running


def test_the_web_app_with_redis_leaves_the_work_to_workers(
    web: Web, valkey: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lifespan starts none, so the driver may still be changed."""
    monkeypatch.setenv("KASHVI_REDIS_URL", valkey.url)

    async def run() -> None:
        async with app.router.lifespan_context(app):
            queue.set_driver(queue.MemoryDriver())

    asyncio.run(run())


def test_an_order_goes_through_a_real_server(web: Web, valkey: RedisServer, provider: Provider) -> None:
    """What is dispatched to Redis is processed by a worker on Redis, and its confirmation waits there."""
    queue.set_driver(queue.RedisDriver(valkey.url))
    web.post("/orders", json=TEA)
    assert valkey.client().llen("kashvi:queue:jobs") == 1
    queue.work(stop_when_empty=True)
    assert web.get("/orders/1").json()["status"] == "paid"
    assert provider.charged == {"order-1": 900}
    assert valkey.client().zcard("kashvi:queue:delayed") == 1


def status_of(order_id: int) -> models.Status:
    """How far an order has come, as another connection sees it."""
    with models.Session() as session:
        return session.get_one(models.Order, order_id).status


def tea_in_stock() -> int:
    """Packets of tea left."""
    with models.Session() as session:
        return session.get_one(models.Product, "tea").stock
