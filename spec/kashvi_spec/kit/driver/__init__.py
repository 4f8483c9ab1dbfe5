"""The suite for drivers."""
