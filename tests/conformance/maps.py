"""What networks do with maps, in loops over nested lists [channel][row][column], for references."""

import math

Map = list[list[list[float]]]


def convolved(weight: list, bias: list[float] | None, feature: Map) -> Map:
    """A convolution of odd width that keeps the size, with zeros beyond the border."""
    reach = len(weight[0][0]) // 2
    height, width = len(feature[0]), len(feature[0][0])
    answer = []
    for o, kernels in enumerate(weight):
        plane = []
        for y in range(height):
            line = []
            for x in range(width):
                value = bias[o] if bias else 0.0
                for channel, kernel in zip(feature, kernels, strict=True):
                    for dy in range(-reach, reach + 1):
                        for dx in range(-reach, reach + 1):
                            if 0 <= y + dy < height and 0 <= x + dx < width:
                                value += kernel[dy + reach][dx + reach] * channel[y + dy][x + dx]
                line.append(value)
            plane.append(line)
        answer.append(plane)
    return answer


def averaged(feature: Map, size: tuple[int, int]) -> Map:
    """Each of height × width cells is the mean of the pixels that it touches."""

    def cell(index: int, cells: int, pixels: int) -> range:
        return range(math.floor(index * pixels / cells), math.ceil((index + 1) * pixels / cells))

    answer = []
    for channel in feature:
        plane = []
        for i in range(size[0]):
            line = []
            for j in range(size[1]):
                rows, columns = cell(i, size[0], len(channel)), cell(j, size[1], len(channel[0]))
                pixels = [channel[y][x] for y in rows for x in columns]
                line.append(sum(pixels) / len(pixels))
            plane.append(line)
        answer.append(plane)
    return answer


def nearest(feature: Map, size: tuple[int, int]) -> Map:
    """Each pixel is the one that lies at its place, rounded down."""
    return [
        [
            [plane[y * len(plane) // size[0]][x * len(plane[0]) // size[1]] for x in range(size[1])]
            for y in range(size[0])
        ]
        for plane in feature
    ]


def mean_square(one: Map, other: Map) -> float:
    """Of all differences."""
    squares = [
        (a - b) ** 2
        for plane, plane_of_other in zip(one, other, strict=True)
        for line, line_of_other in zip(plane, plane_of_other, strict=True)
        for a, b in zip(line, line_of_other, strict=True)
    ]
    return sum(squares) / len(squares)
