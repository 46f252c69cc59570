"""Losses on the relations between the patches of images."""

from jaxtyping import Float, Int
from torch import Tensor

from understudy.functional.features import at_one_size
from understudy.functional.geometry import precise, products, unit


def patch_manifold_loss(
    student_feature: Float[Tensor, "batch student_channels student_height student_width"],
    teacher_feature: Float[Tensor, "batch teacher_channels teacher_height teacher_width"],
    *,
    within: float = 4.0,
    across: float = 0.1,
    anywhere: float = 0.2,
    drawn: Int[Tensor, " patches"] | None = None,
) -> Float[Tensor, ""]:
    r"""Patches are as similar to each other as the teacher's: of one image, of one place, and of any.

    .. math:: \frac{\alpha}{B P^2} \sum_i \| M(S_{i:}) - M(T_{i:}) \|_F^2
        + \frac{\beta}{P B^2} \sum_p \| M(S_{:p}) - M(T_{:p}) \|_F^2
        + \frac{\gamma}{K^2} \| M(S_D) - M(T_D) \|_F^2, \quad M(X) = \hat X \hat X^\top

    with each patch at length one, the B images of the batch and the P patches of each.

    Args:
        student_feature: (batch, channels, height, width), a pixel is a patch; the gradient goes here.
        teacher_feature: the same with its own channels and size; a constant of the loss, which gives it no gradient.
        within: :math:`\alpha`, weight of the relations between the patches of an image.
        across: :math:`\beta`, weight of the relations between the images, at each place.
        anywhere: :math:`\gamma`, weight of the relations between the drawn patches.
        drawn: (K,), which of the batch · P patches are D, image by image and row by row; None means all.

    Returns:
        A scalar, in float32 or better.

    Scale:
        0 where all cosines are equal; at most 4 (α + β + γ), without unit; and always 0 for no images. The paper sums
        over patches, and divides only by the number of matrices; the authors' code takes means, to which these weights
        belong, and so does this. Of maps of two sizes the larger is averaged down. A patch of zeros is at a right angle
        to everything, and gets no gradient.

    Example:
        >>> import torch
        >>> student = torch.eye(2).reshape(1, 2, 1, 2)  # one image of two patches, at a right angle
        >>> patch_manifold_loss(student, torch.ones(1, 3, 1, 2))  # (4 + 0.2) / 2
        tensor(2.1000)

    References:
        Hao et al.: Learning Efficient Vision Transformers via Fine-Grained Manifold Distillation, NeurIPS 2022
        (arXiv:2107.01378), section 3.
    """
    pooled = at_one_size(precise(student_feature), precise(teacher_feature.detach()))
    sides = [unit(feature.flatten(2).transpose(1, 2)) for feature in pooled]
    if sides[0].numel() == 0:
        return sides[0].sum()
    any_patch = [side.flatten(0, 1) if drawn is None else side.flatten(0, 1)[drawn] for side in sides]
    of_images = _distance(sides[0], sides[1])
    of_places = _distance(sides[0].transpose(0, 1), sides[1].transpose(0, 1))
    return within * of_images + across * of_places + anywhere * _distance(any_patch[0], any_patch[1])


def _distance(student: Float[Tensor, "*sets rows channels"], teacher: Float[Tensor, "*sets rows width"]) -> Tensor:
    """The mean squared difference of the inner products of all rows of each set."""
    return (products(student, student) - products(teacher, teacher)).square().mean()
