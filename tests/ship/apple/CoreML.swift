// What the app uses of CoreML.

@_exported import CoreGraphics

public enum MLComputeUnits: Sendable { case cpuOnly, cpuAndGPU, all, cpuAndNeuralEngine }
public enum MLMultiArrayDataType: Int { case double, float32, float16, int32 }
public enum MLFeatureType: Int { case invalid, int64, double, string, image, multiArray, dictionary, sequence, state }

public final class MLMultiArray {
    public init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws {}
    public var shape: [NSNumber] { [] }
    public var strides: [NSNumber] { [] }
    public var count: Int { 0 }
    public var dataType: MLMultiArrayDataType { .float32 }
    public var dataPointer: UnsafeMutableRawPointer { fatalError() }
    public subscript(index: Int) -> NSNumber { get { 0 } set {} }
}

public final class MLFeatureValue {
    public init(multiArray: MLMultiArray) {}
    public init(pixelBuffer: CVPixelBuffer) {}
    public init(double: Double) {}
    public init(int64: Int64) {}
    public var type: MLFeatureType { .invalid }
    public var multiArrayValue: MLMultiArray? { nil }
    public var imageBufferValue: CVPixelBuffer? { nil }
    public var dictionaryValue: [AnyHashable: NSNumber] { [:] }
    public var doubleValue: Double { 0 }
    public var int64Value: Int64 { 0 }
}

public protocol MLFeatureProvider {
    var featureNames: Set<String> { get }
    func featureValue(for name: String) -> MLFeatureValue?
}

public final class MLDictionaryFeatureProvider: MLFeatureProvider {
    public init(dictionary: [String: Any]) throws {}
    public var featureNames: Set<String> { [] }
    public func featureValue(for name: String) -> MLFeatureValue? { nil }
}

public final class MLModelConfiguration { public init() {}; public var computeUnits = MLComputeUnits.all }

public final class MLModel {
    public init(contentsOf url: URL, configuration: MLModelConfiguration) throws {}
    public static func compileModel(at url: URL) async throws -> URL { url }
    public func prediction(from input: any MLFeatureProvider) throws -> any MLFeatureProvider { fatalError() }
}
