"""All kinds of faults, one function each, by topic in `protocol_faults`, `client_faults` and `recovery_faults`.

A fault receives the scene and its own `Random`, injects the failure, and checks the response of the server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

from tests.load.client_faults import (
    half_close_in_mid_frame,
    kill_in_mid_frame,
    loss_and_delay,
    reader_that_never_reads,
    reset_in_mid_frame,
    resumption_that_is_never_read,
    silence_on_an_open_connection,
    slow_reader,
    vanished_client,
)
from tests.load.fault_scene import Scene
from tests.load.protocol_faults import (
    bad_control_frame,
    bad_opcode,
    bad_utf8,
    continuation_without_a_message,
    endless_message,
    frame_with_a_huge_declared_size,
    frame_without_a_mask_or_with_reserved_bits,
    half_a_request,
    huge_request_head,
    message_above_the_limit,
    noise_instead_of_a_request,
    noise_instead_of_frames,
    random_messages,
)
from tests.load.recovery_faults import (
    cut_and_resumption,
    every_other_step_fails,
    every_request_fails,
    guessed_resume_token,
    no_memory_for_a_final,
    no_memory_for_a_step,
    two_connections_for_one_session,
)

NEEDS_A_LINK = (vanished_client, loss_and_delay)
KINDS: tuple[Callable[[Scene, Random], Awaitable[None]], ...] = (
    noise_instead_of_a_request,
    half_a_request,
    huge_request_head,
    noise_instead_of_frames,
    bad_utf8,
    bad_opcode,
    frame_without_a_mask_or_with_reserved_bits,
    bad_control_frame,
    continuation_without_a_message,
    random_messages,
    frame_with_a_huge_declared_size,
    message_above_the_limit,
    endless_message,
    reset_in_mid_frame,
    kill_in_mid_frame,
    half_close_in_mid_frame,
    silence_on_an_open_connection,
    vanished_client,
    loss_and_delay,
    reader_that_never_reads,
    resumption_that_is_never_read,
    slow_reader,
    no_memory_for_a_step,
    no_memory_for_a_final,
    every_other_step_fails,
    every_request_fails,
    cut_and_resumption,
    guessed_resume_token,
    two_connections_for_one_session,
)
