"""What a draft is taught: the target's own images, with the distributions they were drawn from."""

import pytest
import torch

import sdvar
from lightning_modules.distilling.divergence import divergence
from lightning_modules.distilling.role import Role
from lightning_modules.distilling.teaching.images import HELD_OUT, Images, held_out, labels_of
from lightning_modules.distilling.teaching.teacher import Teacher, guided_logits
from tests.random_pairs import random_pair

SAMPLING = sdvar.Sampling(cfg=1.5, top_k=8, top_p=0.9, temperature=(1.2, 1.1, 1.0, 0.9))
LABELS, SEEDS = torch.tensor([0, 3, 9]), torch.tensor([5, 6, 7])


@pytest.fixture(scope="module")
def pair():
    return random_pair()  # float64, 4 scales


@pytest.fixture(scope="module")
def teacher(pair):
    return Teacher(pair.target, pair.tokenizer, SAMPLING)


def baseline(pair, strategy=None):
    decoded = sdvar.decode(pair, LABELS, SEEDS, strategy or sdvar.Baseline(), SAMPLING, images=False)
    return torch.cat(decoded.tokens, dim=1)


def test_a_lesson_is_an_image_of_the_target(pair, teacher):
    lesson = teacher.lesson(LABELS, SEEDS, 4)
    assert torch.equal(lesson.tokens, baseline(pair))
    torch.testing.assert_close(lesson.inputs, pair.tokenizer.var_inputs(list(pair.pyramid.split(lesson.tokens))))


def test_a_student_with_guidance_inside_is_its_class_branch(pair, teacher):
    lesson, student = teacher.lesson(LABELS, SEEDS, 4), random_pair().draft
    student.guidance_inside = sdvar.Sampling(cfg=1.5)
    with torch.no_grad():
        logits = guided_logits(student, LABELS, lesson.inputs, 2, 4, SAMPLING)
        expected = student(LABELS, lesson.inputs)[:, pair.pyramid.span(2, 4)]
    temperature = torch.tensor([1.0] * 9 + [0.9] * 16, dtype=torch.float64)[:, None]
    torch.testing.assert_close(logits, expected / temperature)


def test_passes_that_sample_and_a_pass_that_reads_give_the_same_distributions(pair, teacher):
    sampled = teacher.lesson(LABELS, SEEDS, 4)
    read = teacher.lesson(LABELS, SEEDS, 4, known=baseline(pair))
    for ours, theirs in zip(read, sampled):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("last", [1, 2, 4])
def test_only_the_wanted_scales_are_sampled(pair, teacher, last):
    lesson, end = teacher.lesson(LABELS, SEEDS, last), pair.pyramid.offsets[last]
    assert lesson.logits.shape == (3, end, pair.target.codebook_size)
    assert torch.equal(lesson.tokens, baseline(pair)[:, :end])


def test_on_policy_the_student_samples_its_scales(pair, teacher):
    lesson = teacher.lesson(LABELS, SEEDS, 4, pair.draft, entry=2)
    assert torch.equal(lesson.tokens, baseline(pair, sdvar.Handoff(2, first="target")))
    torch.testing.assert_close(lesson.logits, teacher.lesson(LABELS, SEEDS, 4, known=lesson.tokens).logits)


@pytest.mark.parametrize(("first", "last"), [(0, 4), (0, 2), (2, 4)])
@pytest.mark.parametrize("cfg", [0.0, 1.5])
def test_a_student_that_is_the_target_has_its_distributions(pair, first, last, cfg):
    sampling = sdvar.Sampling(cfg=cfg, top_k=8, top_p=0.9)
    lesson = Teacher(pair.target, pair.tokenizer, sampling).lesson(LABELS, SEEDS, last)
    ours = guided_logits(pair.target, LABELS, lesson.inputs, first, last, sampling)
    theirs = lesson.logits[:, pair.pyramid.span(first, last)]
    torch.testing.assert_close(sampling.filtered(ours), theirs)
    assert divergence(theirs, ours, sampling).abs().max() < 1e-12


def test_divergence_is_that_of_what_is_picked_from():
    target, draft = torch.tensor([3.0, 2.0, 1.0, 0.0]), torch.tensor([0.0, 2.0, 3.0, 1.0], requires_grad=True)
    p = torch.tensor([3.0, 2.0]).softmax(0)
    q = torch.tensor([0.0, 2.0, 3.0]).softmax(0)  # the last token is never picked, by neither
    sampling = sdvar.Sampling(top_k=2)
    found = divergence(sampling.filtered(target), draft, sampling)
    torch.testing.assert_close(found, (p * (p / q[:2]).log()).sum())
    found.backward()
    assert draft.grad.isfinite().all() and draft.grad[2] > 0 and draft.grad[3] == 0


def test_an_image_has_its_own_class_and_its_process_does_not_matter():
    whole = torch.cat([torch.stack(Images(3, 1000, 8).training(batch)) for batch in range(2)], dim=1)
    parts = [Images(3, 1000, 2, rank, 4).training(batch) for batch in range(2) for rank in range(4)]
    assert torch.equal(torch.cat([torch.stack(part) for part in parts], dim=1), whole)
    assert len(whole[1].unique()) == 16 and whole[1].min() > 2**59
    counts = labels_of(torch.arange(10_000), 10).bincount(minlength=10)
    assert len(counts) == 10 and counts.min() > 850  # 1,000 with a standard deviation of 30
    shares = [held_out(10, rank, 3, 2) for rank in range(3)]
    assert sorted(number for share in shares for batch in share for number in batch) == list(range(10))
    assert whole[1].max() < HELD_OUT


@pytest.mark.parametrize(
    ("name", "from_scale", "error"),
    [
        ("tale", 2, "role: expected one of draft, coarse, tail, got 'tale'"),
        ("tail", 0, "from_scale: expected an int from 1 to 3 with role tail, for a target of 4 scales; got 0"),
        ("coarse", 4, "from_scale: expected an int from 1 to 3 with role coarse, for a target of 4 scales; got 4"),
        ("tail", None, "from_scale: expected an int from 1 to 3"),
        ("draft", 2, "from_scale: expected none with role draft, all scales, got 2"),
    ],
)
def test_a_role_names_what_is_wrong(name, from_scale, error):
    with pytest.raises(ValueError, match=error):
        Role(name, from_scale, 4)


def test_a_role_is_a_range_of_scales():
    spans = {(role.first, role.last) for role in (Role("draft", None, 4), Role("coarse", 2, 4), Role("tail", 2, 4))}
    assert spans == {(0, 4), (0, 2), (2, 4)}
    assert {Role("draft", None, 4).entry(batch) for batch in range(9)} == {1, 2, 3}
    assert {Role("tail", 2, 4).entry(batch) for batch in range(9)} == {2}
    assert Role("coarse", 1, 4).entry(5) == 1
