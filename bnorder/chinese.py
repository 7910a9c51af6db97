"""The Chinese of the report."""

from dataclasses import replace

from bnorder.english import ENGLISH

CHINESE = replace(ENGLISH, code="zh", tag="zh-Hans")
