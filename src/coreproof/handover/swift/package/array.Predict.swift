// Predict: numbers into the model, numbers out of it, by the names of its inputs and outputs.

import Foundation

/// An array, flat, in row-major order.
public struct Numbers: Sendable {
    public let shape: [Int]
    public let values: [Float]

    public init(shape: [Int], values: [Float]) {
        self.shape = shape
        self.values = values
    }
}

extension Model {
    /// The names of the inputs that are numbers.
    public var inputs: [String] { plan.values.map(\.name) }

    /// The outputs by name. A single number is an array of one.
    public func predict(_ inputs: [String: Numbers]) async throws -> [String: Numbers] {
        for (name, given) in inputs where given.shape.reduce(1, *) != given.values.count {
            throw Failure("\(name): \(given.values.count) numbers are no array of shape \(given.shape).")
        }
        return numbers(try await predictor.look(inputs.mapValues { (shape: $0.shape, values: $0.values) }))
    }

    /// The outputs for a picture, where the model looks at one.
    public func predict(_ photo: Photo) async throws -> [String: Numbers] {
        numbers(try await predictor.look(photo.raster).answer)
    }

    private func numbers(_ answer: Answer) -> [String: Numbers] {
        let shapes = Dictionary(uniqueKeysWithValues: plan.outputs.map { ($0.name, $0.shape) })
        return Dictionary(uniqueKeysWithValues: answer.outputs.map { name, values in
            let known = shapes[name] ?? []
            // a free length may be another one than in the verification
            return (name, Numbers(shape: known.reduce(1, *) == values.count ? known : [values.count], values: values))
        })
    }
}
