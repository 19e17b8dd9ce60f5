"""Frozen models that answer: plain classes, the Ray shell that serves them, and how they are asked."""

from raydistill.teachers.pool import TeacherPool, Ticket
from raydistill.teachers.teacher import LocalTeacher, Teacher, TeacherDescription, TeacherSettings

__all__ = [
    "LocalTeacher",
    "Teacher",
    "TeacherDescription",
    "TeacherPool",
    "TeacherSettings",
    "Ticket",
]
