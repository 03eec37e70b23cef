// Resample: Pillow's resize on 8-bit channels, to the bit, so that a photo enters the model as it did in the verification.
//
// As Pillow does it: separable, antialiased when it shrinks, coefficients in fixed point with 22 bits, the first pass rounded
// to 8 bits before the second. Pillow 13 and later run the vertical pass first where a picture loses more than twice as many
// rows as columns; that changes the rounding, so the plan says whether the verification's Pillow does.

import Foundation

struct Resampler {
    enum Filter {
        case nearest, bilinear, bicubic, lanczos

        init(_ name: String) {
            switch name {
            case "nearest": self = .nearest
            case "bicubic": self = .bicubic
            case "lanczos": self = .lanczos
            default: self = .bilinear
            }
        }

        var support: Double {
            switch self {
            case .nearest: return 0
            case .bilinear: return 1
            case .bicubic: return 2
            case .lanczos: return 3
            }
        }

        func weight(_ distance: Double) -> Double {
            let x = abs(distance)
            switch self {
            case .nearest:
                return 1
            case .bilinear:
                return x < 1 ? 1 - x : 0
            case .bicubic:
                let a = -0.5
                if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
                return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0
            case .lanczos:
                return x < 3 ? Filter.sinc(x) * Filter.sinc(x / 3) : 0
            }
        }

        private static func sinc(_ x: Double) -> Double {
            x == 0 ? 1 : sin(x * .pi) / (x * .pi)
        }
    }

    private struct Coefficients {
        let first: [Int]
        let weights: [[Int32]]
    }

    private static let precision: Int32 = 22

    let filter: Filter
    let tallFirst: Bool

    func resize(_ raster: Raster, width: Int, height: Int) -> Raster {
        if case .nearest = filter { return nearest(raster, width: width, height: height) }
        let lost = raster.height - height
        let tall = tallFirst && lost > 0 && lost > 2 * (raster.width - width)
        var result = raster
        if tall { result = vertical(result, height: height) }
        if width != raster.width { result = horizontal(result, width: width) }
        if !tall, height != raster.height { result = vertical(result, height: height) }
        return result
    }

    private func nearest(_ raster: Raster, width: Int, height: Int) -> Raster {
        var out = [UInt8](repeating: 0, count: width * height * Raster.channels)
        let columns = Resampler.nearest(from: raster.width, to: width)
        let rows = Resampler.nearest(from: raster.height, to: height)
        for y in 0..<height {
            for x in 0..<width {
                for c in 0..<Raster.channels {
                    out[(y * width + x) * Raster.channels + c] =
                        raster.pixels[(rows[y] * raster.width + columns[x]) * Raster.channels + c]
                }
            }
        }
        return Raster(width: width, height: height, pixels: out)
    }

    /// Positions by adding up steps, as Pillow does: multiplied out, some of them would round to their neighbour.
    private static func nearest(from input: Int, to output: Int) -> [Int] {
        let step = Double(input) / Double(output)
        var position = step * 0.5
        return (0..<output).map { _ in
            defer { position += step }
            return min(Int(position), input - 1)
        }
    }

    private func coefficients(from input: Int, to output: Int) -> Coefficients {
        let scale = Double(input) / Double(output)
        let stretch = max(scale, 1)
        let support = filter.support * stretch
        var first: [Int] = []
        var weights: [[Int32]] = []
        for position in 0..<output {
            let centre = (Double(position) + 0.5) * scale
            let low = max(0, Int(centre - support + 0.5))
            let high = min(input, Int(centre + support + 0.5))
            var row = (low..<high).map { filter.weight((Double($0) - centre + 0.5) / stretch) }
            let sum = row.reduce(0, +)
            if sum != 0 { row = row.map { $0 / sum } }
            first.append(low)
            weights.append(row.map { value in
                let fixed = value * Double(1 << Resampler.precision)
                return Int32(value < 0 ? fixed - 0.5 : fixed + 0.5)
            })
        }
        return Coefficients(first: first, weights: weights)
    }

    private static func clip(_ sum: Int32) -> UInt8 {
        UInt8(max(0, min(255, sum >> precision)))
    }

    private func horizontal(_ raster: Raster, width: Int) -> Raster {
        let plan = coefficients(from: raster.width, to: width)
        var out = [UInt8](repeating: 0, count: width * raster.height * Raster.channels)
        for y in 0..<raster.height {
            let line = y * raster.width
            for x in 0..<width {
                let (first, weights) = (plan.first[x], plan.weights[x])
                for c in 0..<Raster.channels {
                    var sum: Int32 = 1 << (Resampler.precision - 1)
                    for (k, weight) in weights.enumerated() {
                        sum &+= Int32(raster.pixels[(line + first + k) * Raster.channels + c]) &* weight
                    }
                    out[(y * width + x) * Raster.channels + c] = Resampler.clip(sum)
                }
            }
        }
        return Raster(width: width, height: raster.height, pixels: out)
    }

    private func vertical(_ raster: Raster, height: Int) -> Raster {
        let plan = coefficients(from: raster.height, to: height)
        let line = raster.width * Raster.channels
        var out = [UInt8](repeating: 0, count: height * line)
        for y in 0..<height {
            let (first, weights) = (plan.first[y], plan.weights[y])
            for i in 0..<line {
                var sum: Int32 = 1 << (Resampler.precision - 1)
                for (k, weight) in weights.enumerated() {
                    sum &+= Int32(raster.pixels[(first + k) * line + i]) &* weight
                }
                out[y * line + i] = Resampler.clip(sum)
            }
        }
        return Raster(width: raster.width, height: height, pixels: out)
    }
}
