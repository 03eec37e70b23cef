// Predictor: the model on one kind of processor, loaded once, away from the screen's thread.

import CoreML
import Foundation

/// The processors that Core ML may use; the system decides within them, layer by layer.
enum Processor: String, CaseIterable, Identifiable, Sendable {
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

struct Answer: Sendable {
    /// A classifier's probabilities in the order of the labels; empty for other models.
    let scores: [Float]
    /// All outputs of numbers, flat, in row-major order; pictures as their channels from 0 to 255.
    let outputs: [String: [Float]]
    /// An output that is a picture.
    let picture: Raster?

    func top(_ count: Int) -> [(index: Int, score: Float)] {
        scores.enumerated().sorted { $0.element > $1.element }.prefix(count).map { ($0.offset, $0.element) }
    }
}

/// What went in and what came out. ``seen`` is nil for a model that takes no picture.
struct Shot: Sendable {
    let seen: Raster?
    let answer: Answer
}

actor Predictor {
    let plan: Plan
    private let model: MLModel
    private let classes: Classes

    init(_ plan: Plan, _ units: MLComputeUnits = .all) async throws {
        let url = try await Compiled.shared.url(plan)
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units
        self.plan = plan
        classes = Classes(plan.labels)
        model = try await MLModel.load(contentsOf: url, configuration: configuration)
    }

    /// A photo of any size: upright, cut and scaled as in the verification.
    func look(_ photo: Data) throws -> Shot {
        try look(Picture.decode(photo))
    }

    func look(_ photo: Raster) throws -> Shot {
        guard let picture = plan.picture else { throw Failure("This model takes no picture.") }
        let seen = picture.fit(photo)
        return Shot(seen: seen, answer: try predict([picture.name: try Picture.feature(seen, picture)]))
    }

    /// Numbers by the name of the input that takes them, flat, in row-major order, with their shape.
    func look(_ numbers: [String: (shape: [Int], values: [Float])]) throws -> Answer {
        var features: [String: MLFeatureValue] = [:]
        for input in plan.values {
            guard let given = numbers[input.name] else { throw Failure("The model needs \(input.name).") }
            features[input.name] = try feature(given.values, given.shape, input)
        }
        return try predict(features)
    }

    func look(_ sample: Plan.Sample) throws -> Shot {
        let (seen, features) = try inputs(sample)
        return Shot(seen: seen, answer: try predict(features, expected: sample.scores.flatMap(Floats.decode)))
    }

    /// The time of one prediction in milliseconds: the median of several, after one that is not counted.
    func milliseconds(_ sample: Plan.Sample, runs: Int = 10) throws -> Double {
        let input = try MLDictionaryFeatureProvider(dictionary: try inputs(sample).features)
        _ = try model.prediction(from: input)
        let clock = ContinuousClock()
        let times = try (0..<runs).map { _ in
            try clock.measure { try autoreleasepool { _ = try model.prediction(from: input) } }
        }.sorted()
        let middle = times[times.count / 2].components
        return Double(middle.seconds) * 1e3 + Double(middle.attoseconds) / 1e15
    }

    private func inputs(_ sample: Plan.Sample) throws -> (seen: Raster?, features: [String: MLFeatureValue]) {
        var features: [String: MLFeatureValue] = [:]
        for input in plan.values {
            guard let stored = sample.inputs[input.name] else { throw Failure("\(sample.name) brings no \(input.name).") }
            let values = Floats.decode(try Data(contentsOf: Plan.resource(stored.file)))
            features[input.name] = try feature(values, stored.shape, input)
        }
        guard let picture = plan.picture, let file = sample.seen else { return (nil, features) }
        let seen = try Picture.decode(Plan.resource(file))
        features[picture.name] = try Picture.feature(seen, picture)
        return (seen, features)
    }

    private func feature(_ values: [Float], _ shape: [Int], _ input: Plan.Values) throws -> MLFeatureValue {
        switch input.kind {
        case .tensor: return try Arrays.feature(values, shape: shape, dtype: input.dtype)
        case .double: return MLFeatureValue(double: Double(values.first ?? 0))
        case .int64: return MLFeatureValue(int64: Int64(values.first ?? 0))
        }
    }

    private func predict(_ features: [String: MLFeatureValue], expected: [Float]? = nil) throws -> Answer {
        try autoreleasepool {
            read(try model.prediction(from: MLDictionaryFeatureProvider(dictionary: features)), expected)
        }
    }

    private func read(_ provider: MLFeatureProvider, _ expected: [Float]?) -> Answer {
        var outputs: [String: [Float]] = [:]
        var picture: Raster?
        for name in provider.featureNames {
            guard let value = provider.featureValue(for: name) else { continue }
            switch value.type {
            case .multiArray: outputs[name] = value.multiArrayValue.map(Arrays.flat)
            case .double: outputs[name] = [Float(value.doubleValue)]
            case .int64: outputs[name] = [Float(value.int64Value)]
            case .image:
                guard let buffer = value.imageBufferValue else { continue }
                outputs[name] = Picture.numbers(buffer)
                picture = Picture.raster(buffer)
            default: continue
            }
        }
        return Answer(scores: scores(provider, outputs, expected), outputs: outputs, picture: picture)
    }

    private func scores(_ provider: MLFeatureProvider, _ outputs: [String: [Float]], _ expected: [Float]?) -> [Float] {
        guard plan.kind == .classifier else { return [] }
        var scores: [Float] = []
        if let name = plan.probabilities, let named = provider.featureValue(for: name)?.dictionaryValue {
            scores = classes.scores({ label in
                (named[AnyHashable(label)] ?? Int64(label).flatMap { named[AnyHashable(NSNumber(value: $0))] })?.floatValue
            }, expected: expected, nothing: plan.softmax ? -.infinity : 0)
        } else if let name = plan.scores {
            scores = outputs[name] ?? []
        }
        return plan.softmax ? Floats.softmax(scores) : scores
    }
}

/// Where the compiled model lies. Xcode compiles it into the app; where only the source model is there, the device does, once.
private actor Compiled {
    static let shared = Compiled()
    private var known: Task<URL, Error>?

    func url(_ plan: Plan) async throws -> URL {
        for bundle in Resources.bundles {
            if let url = bundle.url(forResource: plan.model, withExtension: "mlmodelc") { return url }
        }
        let task = known ?? Task { try await MLModel.compileModel(at: try Plan.resource(plan.modelFile)) }
        known = task
        return try await task.value
    }
}
