// What the app uses of CoreML. The model is a list of known answers: answers.json beside it, by what the inputs hold.

@_exported import CoreGraphics

public enum MLComputeUnits: Sendable { case cpuOnly, cpuAndGPU, all, cpuAndNeuralEngine }
public enum MLMultiArrayDataType: Int { case double, float32, float16, int32 }
public enum MLFeatureType: Int { case invalid, int64, double, string, image, multiArray, dictionary, sequence, state }

public final class MLMultiArray {
    /// Rows end in padding where the model made the array, as those of the Neural Engine do.
    init(_ shape: [Int], _ dataType: MLMultiArrayDataType, padding: Int) {
        self.dataType = dataType
        self.shape = shape.map { NSNumber(value: $0) }
        var steps = [Int](repeating: 1, count: shape.count)
        for axis in shape.indices.dropLast().reversed() {
            steps[axis] = steps[axis + 1] * shape[axis + 1] + (axis == shape.count - 2 ? padding : 0)
        }
        strides = steps.map { NSNumber(value: $0) }
        let size = (steps.first ?? 1) * (shape.first ?? 1) * 8 + 64
        dataPointer = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
        dataPointer.initializeMemory(as: UInt8.self, repeating: 0xAB, count: size)
    }
    deinit { dataPointer.deallocate() }
    public convenience init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws {
        self.init(shape.map(\.intValue), dataType, padding: 0)
    }
    public let shape: [NSNumber]
    public let strides: [NSNumber]
    public let dataType: MLMultiArrayDataType
    public let dataPointer: UnsafeMutableRawPointer
    public var count: Int { shape.reduce(1) { $0 * $1.intValue } }
    public subscript(index: Int) -> NSNumber { get { 0 } set {} }
}

public final class MLFeatureValue {
    public private(set) var type = MLFeatureType.invalid
    public private(set) var multiArrayValue: MLMultiArray?
    public private(set) var imageBufferValue: CVPixelBuffer?
    public private(set) var dictionaryValue: [AnyHashable: NSNumber] = [:]
    public private(set) var doubleValue = 0.0
    public private(set) var int64Value: Int64 = 0
    public init(multiArray: MLMultiArray) { (type, multiArrayValue) = (.multiArray, multiArray) }
    public init(pixelBuffer: CVPixelBuffer) { (type, imageBufferValue) = (.image, pixelBuffer) }
    public init(double: Double) { (type, doubleValue) = (.double, double) }
    public init(int64: Int64) { (type, int64Value) = (.int64, int64) }
    init(dictionary: [AnyHashable: NSNumber]) { (type, dictionaryValue) = (.dictionary, dictionary) }

    /// All bytes that the value holds, each weighed with its place.
    var sum: UInt64 {
        if let array = multiArrayValue {
            let bytes = array.count * (array.dataType == .double ? 8 : array.dataType == .float16 ? 2 : 4)
            return (0..<bytes).reduce(0) { $0 &+ UInt64($1 + 1) &* UInt64(array.dataPointer.load(fromByteOffset: $1, as: UInt8.self)) }
        }
        guard let buffer = imageBufferValue else { return 0 }
        let row = buffer.stride - 12
        return (0..<(row * buffer.height)).reduce(0) { total, i in
            let byte = buffer.memory.load(fromByteOffset: i / row * buffer.stride + i % row, as: UInt8.self)
            return total &+ UInt64(i + 1) &* UInt64(byte)
        }
    }
}

public protocol MLFeatureProvider {
    var featureNames: Set<String> { get }
    func featureValue(for name: String) -> MLFeatureValue?
}

public final class MLDictionaryFeatureProvider: MLFeatureProvider {
    public init(dictionary: [String: Any]) throws { values = dictionary.compactMapValues { $0 as? MLFeatureValue } }
    private let values: [String: MLFeatureValue]
    public var featureNames: Set<String> { Set(values.keys) }
    public func featureValue(for name: String) -> MLFeatureValue? { values[name] }
}

public final class MLModelConfiguration { public init() {}; public var computeUnits = MLComputeUnits.all }

struct Known: Decodable {
    struct Output: Decodable {
        let name: String
        let kind: String
        let shape: [Int]
        let numbers: [Double]
        let labels: [String]
    }

    let sums: [String: UInt64]
    let outputs: [Output]
}

struct Unknown: LocalizedError { let errorDescription: String? }

public final class MLModel {
    private let known: [Known]
    public init(contentsOf url: URL, configuration: MLModelConfiguration) throws {
        let file = url.deletingLastPathComponent().appendingPathComponent("answers.json")
        known = try JSONDecoder().decode([Known].self, from: Data(contentsOf: file))
    }
    public static func load(contentsOf url: URL, configuration: MLModelConfiguration) async throws -> MLModel {
        try MLModel(contentsOf: url, configuration: configuration)
    }
    public static func compileModel(at url: URL) async throws -> URL { url }

    public func prediction(from input: any MLFeatureProvider) throws -> any MLFeatureProvider {
        let sums = Dictionary(uniqueKeysWithValues: input.featureNames.map { ($0, input.featureValue(for: $0)?.sum ?? 0) })
        guard let found = known.first(where: { $0.sums == sums }) else {
            throw Unknown(errorDescription: "nothing is known of inputs that sum to \(sums)")
        }
        return try MLDictionaryFeatureProvider(dictionary: Dictionary(uniqueKeysWithValues: found.outputs.map { ($0.name, MLModel.value($0)) }))
    }

    private static func value(_ output: Known.Output) -> MLFeatureValue {
        switch output.kind {
        case "words", "integers":
            let pairs = zip(output.labels, output.numbers).map { label, number in
                (output.kind == "words" ? AnyHashable(label) : AnyHashable(NSNumber(value: Int64(label)!)), NSNumber(value: number))
            }
            return MLFeatureValue(dictionary: Dictionary(pairs) { first, _ in first })
        case "gray":
            let buffer = CVPixelBuffer(output.shape[1], output.shape[0], kCVPixelFormatType_OneComponent8)
            for (i, number) in output.numbers.enumerated() {
                let place = i / buffer.width * buffer.stride + i % buffer.width
                buffer.memory.storeBytes(of: UInt8(number), toByteOffset: place, as: UInt8.self)
            }
            return MLFeatureValue(pixelBuffer: buffer)
        case "colours":
            let buffer = CVPixelBuffer(output.shape[1], output.shape[0], kCVPixelFormatType_32BGRA)
            for (i, number) in output.numbers.enumerated() {
                let (place, channel) = (i / 3, i % 3)
                let row = place / buffer.width * buffer.stride
                buffer.memory.storeBytes(of: UInt8(number), toByteOffset: row + place % buffer.width * 4 + 2 - channel, as: UInt8.self)
            }
            return MLFeatureValue(pixelBuffer: buffer)
        default:
            let array = MLMultiArray(output.shape, .float32, padding: 5)
            let inner = output.shape.last ?? 1
            let step = output.shape.count > 1 ? array.strides[output.shape.count - 2].intValue : inner
            for (i, number) in output.numbers.enumerated() {
                array.dataPointer.storeBytes(of: Float(number), toByteOffset: 4 * (i / inner * step + i % inner), as: Float.self)
            }
            return MLFeatureValue(multiArray: array)
        }
    }
}
