"""The web app: takes orders and shows them. The work is done by jobs."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from kashvi import queue
from kashvi.errors import DriverError

from .jobs import ProcessOrderJob, dispatch_unfinished
from .models import Order, Product, Session, Status, create_tables

log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """With Redis, workers are processes of their own. Without, the queue is in memory, so they must run here."""
    create_tables()
    if os.environ.get("KASHVI_REDIS_URL"):
        yield
    else:
        with queue.start_workers(2):
            dispatch_unfinished()
            yield


app = FastAPI(title="Order processing", lifespan=lifespan)


class NewOrder(BaseModel):
    """What a customer sends."""

    email: str
    sku: str
    quantity: int = Field(default=1, ge=1)


class OrderShown(BaseModel):
    """What a customer sees."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    sku: str
    quantity: int
    amount_cents: int
    status: Status
    paid_at: datetime | None
    confirmed_at: datetime | None


@app.post("/orders", status_code=201, response_model=OrderShown)
def create_order(new: NewOrder) -> Order:
    """Store the order, then have it processed."""
    with Session.begin() as session:
        product = session.get(Product, new.sku)
        if product is None:
            raise HTTPException(422, f"there is no product {new.sku!r}")
        amount = new.quantity * product.price_cents
        order = Order(email=new.email, sku=new.sku, quantity=new.quantity, amount_cents=amount)
        session.add(order)
    # After the commit. Before it, a fast worker would look for an order that is not there yet, and a failed commit
    # would leave a job for an order that never will be.
    try:
        queue.dispatch(ProcessOrderJob(order.id))
    except DriverError:
        # The order is stored: an error would have the customer order twice. dispatch_unfinished() makes up for it.
        log.exception("order %d is stored, but perhaps not on the queue", order.id)
    return order


@app.get("/orders/{order_id}", response_model=OrderShown)
def show_order(order_id: int) -> Order:
    """Show how far an order has come."""
    with Session() as session:
        order = session.get(Order, order_id)
    if order is None:
        raise HTTPException(404, f"there is no order {order_id}")
    return order
