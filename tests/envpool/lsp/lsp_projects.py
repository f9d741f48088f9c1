"""A small real project in each language: a shape library in two files and a program that uses it, with one subclass."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LspProject:
    """`shapes` and `report` are the two files that questions are about; `areas` is a line of `report` that calls `total_area`.
    `edit` replaces a text in `shapes` so that `Square` moves down by `shift` lines. `broken` is a new text of `broken_path` with
    an error on line `broken_line` that mentions `broken_word`."""

    language: str
    files: dict[str, str]
    shapes: str
    report: str
    edit: tuple[str, str]
    shift: int
    broken_path: str
    broken: str
    broken_line: int
    broken_word: str

    def line(self, path: str, text: str) -> int:
        """The first line of a file that holds a text, from 1."""
        return next(number for number, line in enumerate(self.files[path].split("\n"), 1) if text in line)


PYTHON = LspProject(
    language="python",
    files={
        "geometry/__init__.py": "",
        "geometry/shapes.py": '''"""Shapes."""


class Shape:
    """Something with an area."""

    def area(self) -> float:
        raise NotImplementedError


class Square(Shape):
    def __init__(self, side: float) -> None:
        self.side = side

    def area(self) -> float:
        return self.side * self.side


def total_area(shapes: list[Shape]) -> float:
    """Sum of all areas."""
    total = 0.0
    for shape in shapes:
        total += shape.area()
    return total
''',
        "report.py": """from geometry.shapes import Square, total_area


def describe(count: int) -> str:
    first = Square(2.0)
    areas = total_area([first] * count)
    return f"area {areas}"


print(describe(3))
""",
    },
    shapes="geometry/shapes.py",
    report="report.py",
    edit=("class Square(Shape):", "UNIT = 1.0\nORIGIN = 0.0\n\n\nclass Square(Shape):"),
    shift=4,
    broken_path="report.py",
    broken="from geometry.shapes import Square\n\nside: int = Square(2.0)\n",
    broken_line=3,
    broken_word="Square",
)

TYPESCRIPT = LspProject(
    language="typescript",
    files={
        "package.json": '{"name": "geometry", "version": "1.0.0"}\n',
        "tsconfig.json": '{"compilerOptions": {"strict": true, "target": "es2020", "module": "commonjs"}, "include": ["src"]}\n',
        "src/shapes.ts": """// Shapes.
export interface Shape {
  area(): number;
}

export class Square implements Shape {
  constructor(private readonly side: number) {}

  area(): number {
    return this.side * this.side;
  }
}

/** Sum of all areas. */
export function total_area(shapes: Shape[]): number {
  let total = 0;
  for (const shape of shapes) {
    total += shape.area();
  }
  return total;
}
""",
        "src/report.ts": """import { Square, total_area } from "./shapes";

export function describe(count: number): string {
  const first = new Square(2);
  const areas = total_area(Array(count).fill(first));
  return `area ${areas}`;
}

console.log(describe(3));
""",
    },
    shapes="src/shapes.ts",
    report="src/report.ts",
    edit=("export class Square", "export const UNIT = 1;\nexport const ORIGIN = 0;\n\nexport class Square"),
    shift=3,
    broken_path="src/report.ts",
    broken='import { Square } from "./shapes";\n\nexport const side: number = new Square(2);\n',
    broken_line=3,
    broken_word="Square",
)

CPP = LspProject(
    language="cpp",
    files={
        "include/shapes.hpp": """#pragma once
#include <vector>

// Something with an area.
class Shape {
public:
  virtual ~Shape() = default;
  virtual double area() const = 0;
};

class Square : public Shape {
public:
  explicit Square(double side) : side_(side) {}
  double area() const override { return side_ * side_; }

private:
  double side_;
};

// Sum of all areas.
double total_area(const std::vector<Square> &shapes);
""",
        "src/shapes.cpp": """#include "shapes.hpp"

double total_area(const std::vector<Square> &shapes) {
  double total = 0;
  for (const Square &shape : shapes) {
    total += shape.area();
  }
  return total;
}
""",
        "src/report.cpp": """#include "shapes.hpp"

double describe(int count) {
  Square first(2.0);
  std::vector<Square> all(count, first);
  double areas = total_area(all);
  return areas;
}

int main() { return static_cast<int>(describe(3)); }
""",
    },
    shapes="include/shapes.hpp",
    report="src/report.cpp",
    edit=("class Square : public", "constexpr double kUnit = 1;\nconstexpr double kOrigin = 0;\n\nclass Square : public"),
    shift=3,
    broken_path="src/report.cpp",
    broken='#include "shapes.hpp"\n\nint side = Square(2.0);\n',
    broken_line=3,
    broken_word="Square",
)

GO = LspProject(
    language="go",
    files={
        "go.mod": "module example.org/geometry\n\ngo 1.19\n",
        "shapes/shapes.go": """// Package shapes knows areas.
package shapes

// Shape is something with an area.
type Shape interface {
	Area() float64
}

// Square has four equal sides.
type Square struct {
	Side float64
}

// Area of the square.
func (s Square) Area() float64 {
	return s.Side * s.Side
}

// TotalArea sums all areas.
func TotalArea(shapes []Shape) float64 {
	total := 0.0
	for _, shape := range shapes {
		total += shape.Area()
	}
	return total
}
""",
        "main.go": """package main

import (
	"fmt"

	"example.org/geometry/shapes"
)

func describe(count int) string {
	first := shapes.Square{Side: 2}
	areas := shapes.TotalArea([]shapes.Shape{first})
	return fmt.Sprint("area ", areas, count)
}

func main() {
	fmt.Println(describe(3))
}
""",
    },
    shapes="shapes/shapes.go",
    report="main.go",
    edit=("// Square has", "// Unit is one.\nconst Unit = 1\n\n// Square has"),
    shift=3,
    broken_path="main.go",
    broken="""package main

import "example.org/geometry/shapes"

var side int = shapes.Square{Side: 2}

func main() { println(side) }
""",
    broken_line=5,
    broken_word="Square",
)

PROJECTS = {project.language: project for project in (PYTHON, TYPESCRIPT, CPP, GO)}
TOTAL = {"go": "TotalArea"}
AREA = {"go": "Area"}


def total_name(project: LspProject) -> str:
    """The name of the function that adds areas up."""
    return TOTAL.get(project.language, "total_area")


def area_name(project: LspProject) -> str:
    """The name of the method."""
    return AREA.get(project.language, "area")
