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

    private func horizontal(_ raster: Raster, width: Int) -> Raster {
        let plan = coefficients(from: raster.width, to: width)
        var out = [UInt8](repeating: 0, count: width * raster.height * Raster.channels)
        for x in 0..<width {
            pass(plan.weights[x], from: plan.first[x] * Raster.channels, step: Raster.channels, in: raster.pixels,
                 to: x * Raster.channels, of: &out, lines: raster.height, count: Raster.channels,
                 line: raster.width * Raster.channels, target: width * Raster.channels)
        }
        return Raster(width: width, height: raster.height, pixels: out)
    }

    private func vertical(_ raster: Raster, height: Int) -> Raster {
        let plan = coefficients(from: raster.height, to: height)
        let line = raster.width * Raster.channels
        var out = [UInt8](repeating: 0, count: height * line)
        for y in 0..<height {
            pass(plan.weights[y], from: plan.first[y] * line, step: line, in: raster.pixels,
                 to: y * line, of: &out, lines: 1, count: line, line: 0, target: 0)
        }
        return Raster(width: raster.width, height: height, pixels: out)
    }

    /// Weighted sums over ``lines`` lines of ``count`` places. Plain loops over plain memory: a playground is built without
    /// optimisation, and a photo has twelve million pixels.
    private func pass(_ weights: [Int32], from: Int, step: Int, in source: [UInt8], to: Int, of out: inout [UInt8],
                      lines: Int, count: Int, line: Int, target: Int) {
        let (taps, bits) = (weights.count, Resampler.precision)
        let half: Int32 = 1 << (bits - 1)
        source.withUnsafeBufferPointer { source in
            out.withUnsafeMutableBufferPointer { out in
                weights.withUnsafeBufferPointer { weights in
                    var y = 0
                    while y < lines {
                        var i = 0
                        while i < count {
                            var sum = half
                            var (k, at) = (0, from &+ y &* line &+ i)
                            while k < taps {
                                sum = sum &+ Int32(truncatingIfNeeded: source[at]) &* weights[k]
                                k = k &+ 1
                                at = at &+ step
                            }
                            let level = sum >> bits
                            out[to &+ y &* target &+ i] = level < 0 ? 0 : level > 255 ? 255 : UInt8(truncatingIfNeeded: level)
                            i = i &+ 1
                        }
                        y = y &+ 1
                    }
                }
            }
        }
    }
}
