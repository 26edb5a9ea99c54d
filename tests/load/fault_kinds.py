"""All kinds of faults, one function each, by topic in `protocol_faults`, `client_faults` and `recovery_faults`.

A fault receives the scene and its own `Random`, does its harm, and checks the response of the server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

from tests.load.client_faults import (
    a_reader_that_dawdles,
    a_reader_that_never_reads,
    a_return_that_is_never_read,
    gone_without_a_word,
    half_closed_in_mid_frame,
    killed_in_mid_frame,
    loss_and_delay,
    reset_in_mid_frame,
    silence_on_an_open_connection,
)
from tests.load.fault_scene import Scene
from tests.load.protocol_faults import (
    a_bad_control_frame,
    a_continuation_of_nothing,
    a_frame_that_says_it_is_huge,
    a_frame_without_a_mask_or_with_reserved_bits,
    a_huge_head,
    a_message_that_is_too_large,
    a_message_without_end,
    bad_opcode,
    bad_utf8,
    half_a_request,
    noise_instead_of_a_request,
    noise_instead_of_frames,
    nonsense,
)
from tests.load.recovery_faults import (
    a_cut_and_a_return,
    a_guess_at_anothers_session,
    every_other_step_fails,
    no_memory_for_a_final,
    no_memory_for_a_step,
    nothing_works,
    two_connections_for_one_session,
)

NEEDS_A_LINK = (gone_without_a_word, loss_and_delay)
KINDS: tuple[Callable[[Scene, Random], Awaitable[None]], ...] = (
    noise_instead_of_a_request,
    half_a_request,
    a_huge_head,
    noise_instead_of_frames,
    bad_utf8,
    bad_opcode,
    a_frame_without_a_mask_or_with_reserved_bits,
    a_bad_control_frame,
    a_continuation_of_nothing,
    nonsense,
    a_frame_that_says_it_is_huge,
    a_message_that_is_too_large,
    a_message_without_end,
    reset_in_mid_frame,
    killed_in_mid_frame,
    half_closed_in_mid_frame,
    silence_on_an_open_connection,
    gone_without_a_word,
    loss_and_delay,
    a_reader_that_never_reads,
    a_return_that_is_never_read,
    a_reader_that_dawdles,
    no_memory_for_a_step,
    no_memory_for_a_final,
    every_other_step_fails,
    nothing_works,
    a_cut_and_a_return,
    a_guess_at_anothers_session,
    two_connections_for_one_session,
)
