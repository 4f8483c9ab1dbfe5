"""What happens to an order after the request. Delivery is at least once, so every job here may run twice."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, update

from kashvi import queue

from .models import Order, Product, Session, Status

CONFIRM_AFTER = timedelta(minutes=5)

log = logging.getLogger(__name__)


def charge_card(amount_cents: int, *, key: str) -> str:
    """Charge the customer; returns the payment's id. Replace it with your payment provider.

    The provider must charge once for one ``key``, however often it is asked: providers call it an idempotency key.
    """
    log.info("charged %d cents for %s", amount_cents, key)
    return f"payment-of-{key}"


def send_confirmation(order: Order) -> None:
    """Tell the customer. Replace it with your mailer."""
    log.info("confirmed order %d to %s", order.id, order.email)


@queue.job("jobs.ProcessOrderJob")
@dataclass
class ProcessOrderJob:
    """Charge the card, update the inventory, and have the confirmation sent in a while."""

    order_id: int

    def handle(self) -> None:
        with Session() as session:
            order = session.get_one(Order, self.order_id)  # raises if there is none: will be retried
        if order.status is Status.PENDING:
            # Outside a transaction, so that a slow provider holds no lock. The key makes it safe to come here again
            # after a crash between the charge and the commit.
            payment_id = charge_card(order.amount_cents, key=f"order-{order.id}")
            _paid(order, payment_id)
        # Also for an order that was paid before: the run that paid it may have ended before this line.
        queue.dispatch_after(SendConfirmationJob(order.id), CONFIRM_AFTER)


def _paid(order: Order, payment_id: str) -> None:
    """Note the payment and take the goods from the stock: together, and once."""
    # The condition is checked where the row is changed: of two runs at the same time, one finds it true.
    pending = update(Order).where(Order.id == order.id, Order.status == Status.PENDING)
    paid = pending.values(status=Status.PAID, payment_id=payment_id, paid_at=datetime.now(UTC))
    taken = update(Product).where(Product.sku == order.sku).values(stock=Product.stock - order.quantity)
    with Session.begin() as session:
        if session.connection().execute(paid).rowcount:
            session.execute(taken)


@queue.job("jobs.SendConfirmationJob")
@dataclass
class SendConfirmationJob:
    """Confirm an order to its customer."""

    order_id: int

    def handle(self) -> None:
        with Session.begin() as session:
            order = session.get_one(Order, self.order_id)
            if order.confirmed_at is None:
                # Sent, then noted: a crash between the two sends a second mail; the other way round, none.
                send_confirmation(order)
                order.confirmed_at = datetime.now(UTC)


def dispatch_unfinished() -> None:
    """Dispatch orders whose job was lost before it reached the queue, or with a queue in memory.

    Harmless for orders that do have a job, as a job may run twice.
    """
    with Session() as session:
        unfinished = session.scalars(select(Order.id).where(Order.confirmed_at.is_(None))).all()
    queue.dispatch_many(ProcessOrderJob(order_id) for order_id in unfinished)
