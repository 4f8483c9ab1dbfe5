"""The tables, and the sessions to reach them."""

from __future__ import annotations

import os
from datetime import datetime
from enum import StrEnum

from sqlalchemy import DateTime, ForeignKey, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

engine = create_engine(os.environ.get("ORDERS_DATABASE_URL", "sqlite:///orders.db"))
# An object is read on after its session has ended: to answer a request, or to charge a card outside a transaction.
Session = sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """All tables of the shop."""


class Product(Base):
    """What can be ordered."""

    __tablename__ = "products"

    sku: Mapped[str] = mapped_column(primary_key=True)
    price_cents: Mapped[int]
    stock: Mapped[int]
    """Below zero: a backorder."""


class Status(StrEnum):
    """How far an order has come."""

    PENDING = "pending"
    PAID = "paid"


class Order(Base):
    """Some pieces of one product, for one customer."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    sku: Mapped[str] = mapped_column(ForeignKey(Product.sku))
    quantity: Mapped[int]
    amount_cents: Mapped[int]
    status: Mapped[Status] = mapped_column(default=Status.PENDING)
    payment_id: Mapped[str | None]
    paid_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    confirmed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


def create_tables() -> None:
    """Make the tables, and a first product, where there are none. A real shop has migrations."""
    with Session.begin() as session:
        Base.metadata.create_all(session.connection())
        if session.get(Product, "tea") is None:
            session.add(Product(sku="tea", price_cents=450, stock=100))
