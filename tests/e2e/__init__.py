"""Tests against real servers, and what starts these."""
