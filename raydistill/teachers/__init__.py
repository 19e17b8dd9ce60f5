"""Frozen models that answer: plain classes, the Ray shell that serves them, and how they are asked."""

from raydistill.teachers.pool import TeacherPool, Ticket
from raydistill.teachers.protocol import Teacher, TeacherDescription, TeacherSettings
from raydistill.teachers.teacher import LocalTeacher

__all__ = [
    "LocalTeacher",
    "Teacher",
    "TeacherDescription",
    "TeacherPool",
    "TeacherSettings",
    "Ticket",
]
