"""The letters every shape is written in, and the check that a tensor has the shape it claims.

    B  triples (or pairs) in a batch        M  modality tokens of an entity, the graph token included
    D  width of an entity code              N  distinct entities in a step
    E  entities of the graph                Q  queries: a triple with one side to be found
    F  width of a modality's raw features   R  relations of the graph
    K  negative candidates of a query       T  training triples
    V  virtual shards of a store            W  workers

A local variable that changes shape may end in its letters: `scores_BK`.
"""

from torch import Tensor

from snag_dist.errors import ShapeError


def match_shape(tensor: Tensor, name: str, *sizes: int) -> Tensor:
    """Return `tensor` if it has the given sizes (-1 matches any).

    Raises:
        ShapeError: the number of dimensions or a size differs; the line names the tensor and both shapes.
    """
    shape = tuple(tensor.shape)
    if len(shape) != len(sizes) or any(want not in (-1, have) for want, have in zip(sizes, shape, strict=True)):
        raise ShapeError(f"{name}: expected shape {sizes} (-1 is any), got {shape}; pass the tensor in that shape")
    return tensor
