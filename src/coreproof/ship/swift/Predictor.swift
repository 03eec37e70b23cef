// Predictor: the model on one kind of processor; loaded once, used from one task at a time.

import CoreML
import Foundation

/// The processors that Core ML may use; the system decides within them.
enum Processor: String, CaseIterable, Identifiable {
    case cpu = "CPU"
    case gpu = "CPU and GPU"
    case neuralEngine = "CPU and Neural Engine"

    var id: String { rawValue }

    var units: MLComputeUnits {
        switch self {
        case .cpu: return .cpuOnly
        case .gpu: return .cpuAndGPU
        case .neuralEngine: return .cpuAndNeuralEngine
        }
    }
}

struct Answer {
    /// A classifier's probabilities in the order of the labels; empty for other models.
    let scores: [Float]
    /// All array outputs, flat, in row-major order.
    let outputs: [String: [Float]]
    let image: CVPixelBuffer?

    func top(_ count: Int) -> [(index: Int, score: Float)] {
        scores.enumerated().sorted { $0.element > $1.element }.prefix(count).map { ($0.offset, $0.element) }
    }
}

actor Predictor {
    private let model: MLModel
    private let plan: Plan

    init(plan: Plan, processor: Processor) async throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = processor.units
        self.plan = plan
        self.model = try await MLModel.load(contentsOf: try await Predictor.compiled(plan), configuration: configuration)
    }

    /// Xcode compiles the model into the app; where only the source model is there it is compiled on the device.
    private static func compiled(_ plan: Plan) async throws -> URL {
        if let url = Bundle.main.url(forResource: plan.model, withExtension: "mlmodelc") { return url }
        return try await MLModel.compileModel(at: try Plan.resource(plan.modelFile))
    }

    func predict(_ raster: Raster) throws -> Answer {
        let input = try MLDictionaryFeatureProvider(dictionary: [plan.input.name: try Picture.feature(raster, plan)])
        return answer(try model.prediction(from: input))
    }

    /// The time of one prediction in milliseconds: the median of several, after one that is not counted.
    func milliseconds(_ raster: Raster, runs: Int = 10) throws -> Double {
        let input = try MLDictionaryFeatureProvider(dictionary: [plan.input.name: try Picture.feature(raster, plan)])
        _ = try model.prediction(from: input)
        let clock = ContinuousClock()
        let times = try (0..<runs).map { _ in try clock.measure { _ = try model.prediction(from: input) } }.sorted()
        let middle = times[times.count / 2].components
        return Double(middle.seconds) * 1e3 + Double(middle.attoseconds) / 1e15
    }

    private func answer(_ provider: MLFeatureProvider) -> Answer {
        var outputs: [String: [Float]] = [:]
        var image: CVPixelBuffer?
        for name in provider.featureNames {
            guard let value = provider.featureValue(for: name) else { continue }
            if let array = value.multiArrayValue { outputs[name] = Predictor.flat(array) }
            if let buffer = value.imageBufferValue { image = buffer }
        }
        return Answer(scores: scores(provider, outputs), outputs: outputs, image: image)
    }

    private func scores(_ provider: MLFeatureProvider, _ outputs: [String: [Float]]) -> [Float] {
        guard plan.kind == .classifier else { return [] }
        var scores: [Float] = []
        if let name = plan.probabilities, let value = provider.featureValue(for: name)?.dictionaryValue as? [AnyHashable: NSNumber] {
            scores = plan.labels.map { label in
                (value[AnyHashable(label)] ?? Int64(label).flatMap { value[AnyHashable(NSNumber(value: $0))] })?.floatValue ?? 0
            }
        } else if let name = plan.scores {
            scores = outputs[name] ?? []
        }
        return plan.softmax ? Predictor.softmax(scores) : scores
    }

    private static func softmax(_ scores: [Float]) -> [Float] {
        guard let highest = scores.max() else { return [] }
        let powers = scores.map { exp(Double($0 - highest)) }
        let sum = powers.reduce(0, +)
        return powers.map { Float($0 / sum) }
    }

    /// Row-major values, whatever the strides: the Neural Engine pads its rows.
    private static func flat(_ array: MLMultiArray) -> [Float] {
        let (shape, strides) = (array.shape.map(\.intValue), array.strides.map(\.intValue))
        var index = [Int](repeating: 0, count: shape.count)
        var values: [Float] = []
        values.reserveCapacity(array.count)
        for _ in 0..<array.count {
            let offset = zip(index, strides).reduce(0) { $0 + $1.0 * $1.1 }
            values.append(value(array, offset))
            for axis in stride(from: shape.count - 1, through: 0, by: -1) {
                index[axis] += 1
                if index[axis] < shape[axis] { break }
                index[axis] = 0
            }
        }
        return values
    }

    private static func value(_ array: MLMultiArray, _ offset: Int) -> Float {
        switch array.dataType {
        case .double: return Float(array.dataPointer.assumingMemoryBound(to: Double.self)[offset])
        case .float32: return array.dataPointer.assumingMemoryBound(to: Float.self)[offset]
        case .int32: return Float(array.dataPointer.assumingMemoryBound(to: Int32.self)[offset])
        case .float16: return half(array.dataPointer.assumingMemoryBound(to: UInt16.self)[offset])
        @unknown default: return .nan
        }
    }

    /// IEEE binary16 as Float, without a type that some simulators lack.
    private static func half(_ bits: UInt16) -> Float {
        let (sign, exponent, fraction) = (bits >> 15, Int(bits >> 10) & 0x1f, Float(bits & 0x3ff))
        let size: Float
        switch exponent {
        case 0: size = fraction * Float(sign: .plus, exponent: -24, significand: 1)
        case 31: size = fraction == 0 ? .infinity : .nan
        default: size = (1 + fraction / 1024) * Float(sign: .plus, exponent: exponent - 15, significand: 1)
        }
        return sign == 1 ? -size : size
    }
}
